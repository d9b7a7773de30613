"""What `vitbench plan` says of streams, and that a run of them ends at one hundred percent."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitbench.choices import Filters, choose
from vitbench.cli import progress
from vitbench.cli.plan import plan
from vitbench.engine.options import RunOptions
from vitbench.engine.outcome import Outcome
from vitbench.engine.workspace import Workspace
from vitbench.plan import make_plan

TASK = "linear_segmentation@dinov2[iterations=10,batch=8]"


def test_forwards_of_a_stream_are_shown_once_for_all_repairs_that_only_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for repairs in ("none", "none,unit,center", "none,unit,center,sclip"):
        plan(
            backbones="lab_ssl", repairs=repairs, tasks=TASK, datasets="scenes", limit=5, records=tmp_path / "runs",
            cache=tmp_path / "cache",
        )  # fmt: skip
        said.append(capsys.readouterr().out.splitlines()[-1])
    assert "streamed: 85 forwards" in said[0]
    assert "streamed: 85 forwards" in said[1]
    assert said[1].endswith("3 cells on 1 streams")
    assert "streamed: 170 forwards" in said[2]
    assert said[2].endswith("4 cells on 2 streams")


def test_a_finished_stream_is_one_hundred_percent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filters = Filters.parse("lab_ssl", "none,unit,center", TASK, "scenes", limit=5)
    options = RunOptions(records=tmp_path / "runs", cache=tmp_path / "cache", offline=True)
    made = make_plan(choose(None, filters).choices, Workspace(options))
    listener = progress.Progress(made)
    for job in (*made.passes, *made.fits, *made.with_status("todo")):
        listener.finished(job, Outcome("ok"))
    assert capsys.readouterr().err.splitlines()[-1].startswith("100%")


def test_plan_takes_every_option_of_run() -> None:
    import inspect

    from vitbench.cli.plan import plan
    from vitbench.cli.run import run

    assert inspect.signature(run).parameters.keys() <= inspect.signature(plan).parameters.keys()
