"""A log of a run that nobody watches: a line per ten percent, and one after a minute without."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from vitbench.choices import Filters, choose
from vitbench.cli import progress
from vitbench.engine.options import RunOptions
from vitbench.engine.outcome import Outcome
from vitbench.engine.workspace import Workspace
from vitbench.jobs import CellJob, FitJob, PassJob, Plan
from vitbench.plan import make_plan


def test_a_long_run_says_that_it_lives_between_two_tenths(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("vitbench.cli.progress.time.monotonic", lambda: clock.now)
    plan = cast(Plan, SimpleNamespace(forwards=1000, fits=(), with_status=lambda _status: ()))
    listener = progress.Progress(plan)
    for second in range(0, 150, 10):
        clock.now = float(second)
        listener._show()
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["0", "60", "120"]
    listener._done = 100
    listener._show()
    assert capsys.readouterr().err.split()[0] == "10%"


def test_a_finished_plan_is_one_hundred_percent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An ensemble's pass and a streaming cell count with every forward that the plan says they take."""
    filters = Filters(("lab_ssl",), ("none", "tta_shift", "center"), ("knn_segmentation@hummingbird",), ("scenes",))
    options = RunOptions(records=tmp_path / "runs", cache=tmp_path / "cache", offline=True)
    plan = make_plan(choose("recovery_costly", filters).choices, Workspace(options))
    assert any(job.forwards_per_image > 1 for job in plan.passes)
    listener = progress.Progress(plan)
    jobs: list[PassJob | FitJob | CellJob] = [*plan.passes, *plan.fits, *plan.with_status("todo")]
    for job in jobs:
        listener.finished(job, Outcome("ok"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("100%")
    assert all("done" in line for line in lines), "with nothing running, a line names what has ended"
