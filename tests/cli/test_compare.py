"""`compare` as a command: exit codes, what it names, and bad folders."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from vitbench.cli.compare import compare
from vitbench.errors import NothingSelectedError, UsageError, VitbenchError
from vitbench.identity import Slot, cell_identity
from vitbench.records.inference import summarise
from vitbench.records.rows import Measure, Rows
from vitbench.records.schema import Record
from vitbench.records.store import write

GROUPS = tuple(f"g{i}" for i in range(30))
MIOU = Measure("mIoU", "%", True, lambda s, info: s["x"] / s["n"])
app = typer.Typer()
app.command()(compare)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))


def put(root: str, value: float = 50.0, backbone: str = "lab_ssl", digest: str = "a", version: int = 1) -> Path:
    slot = Slot(backbone, "none", "linear_segmentation@ridge", "scenes", 0)
    components = {"backbone": {"digest": digest}, "task": {"name": slot.task, "version": version}}
    rows = Rows(GROUPS, GROUPS, {"x": value + np.random.default_rng(0).normal(0, 1, 30), "n": np.ones(30)})
    record = Record.ok(
        slot=slot, identity=cell_identity(slot, components), components=components, headline="mIoU",
        metrics=summarise(rows, [MIOU], draws=200), provenance={"utc": "2026-01-01T00:00:00Z"},
    )  # fmt: skip
    return write(Path(root), record, rows)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=True)


def refused(*arguments: str) -> VitbenchError:
    error = run(*arguments).exception
    assert isinstance(error, VitbenchError), error
    assert "\n" not in str(error)
    return error


def test_equal_folders_are_no_regression() -> None:
    put("a")
    put("b")
    done = run("a", "b")
    assert (done.exit_code, "no regression · 1 unchanged" in done.output) == (0, True)


def test_a_regression_is_exit_code_4_and_names_what_differs() -> None:
    put("a")
    put("b", 40.0, digest="b")
    done = run("a", "b")
    assert done.exit_code == 4
    assert "backbone.digest" in done.output
    assert run("a", "b", "--fail-on", "none").exit_code == 0


def test_missing_cells_fail_only_where_asked() -> None:
    put("a")
    put("a", backbone="lab_sup")
    put("b")
    assert run("a", "b").exit_code == 0
    assert run("a", "b", "--fail-on", "regression,missing,failed").exit_code == 4
    assert run("a", "b", "--fail-on", "missing", "-b", "lab_ssl").exit_code == 0


def test_another_version_is_not_comparable_and_named() -> None:
    put("a")
    put("b", 20.0, version=2)
    done = run("a", "b")
    assert (done.exit_code, "task.version" in done.output) == (0, True)
    assert run("a", "b", "--fail-on", "not-comparable").exit_code == 4


def test_rows_that_changed_under_one_identity_have_drifted() -> None:
    first = put("a")
    shutil.copytree("a", "b")
    second = Path("b") / first.relative_to("a")
    assert "unchanged" in run("a", "b").output
    from vitbench.records.store import read_rows, rows_path, rows_to_parquet

    rows = read_rows(second)
    moved = replace(rows, stats={**rows.stats, "n": np.concatenate([rows.stats["n"][1:], [2.0]])})
    rows_path(second).write_bytes(rows_to_parquet(moved))
    assert "1 drifted" in run("a", "b").output
    more = replace(rows, stats={**rows.stats, "new": np.ones(len(rows))})
    rows_path(second).write_bytes(rows_to_parquet(more))
    assert "1 unchanged" in run("a", "b").output  # a statistic that is kept since then moves none of the others
    assert "1 drifted" in run("b", "a").output


def test_accepted_records_are_found_inside_their_folder() -> None:
    put("results/records")
    Path("results/accepted.json").write_text("{}")
    put("runs")
    assert run("results", "runs").exit_code == 0


@pytest.mark.parametrize("fmt", ["md", "html", "json", "junit"])
def test_every_format_goes_to_a_file_and_the_verdict_to_the_terminal(fmt: str) -> None:
    put("a")
    put("b", 40.0, digest="b")
    done = run("a", "b", "--format", fmt, "--out", "report")
    assert (done.exit_code, done.output.count("\n")) == (4, 1)
    assert "lab_ssl" in Path("report").read_text()


def test_bad_folders_and_options_are_one_line() -> None:
    put("a")
    assert isinstance(refused("a", "nowhere"), NothingSelectedError)
    assert isinstance(refused("a", "a", "-b", "nobody"), NothingSelectedError)
    assert isinstance(refused("a", "a", "--fail-on", "sometimes"), UsageError)
    assert isinstance(refused("a", "a", "--thresholds", "none.toml"), UsageError)


def test_a_truncated_record_is_a_warning_and_the_others_are_compared() -> None:
    put("a")
    put("b")
    broken = put("b", backbone="lab_sup")
    broken.write_bytes(broken.read_bytes()[:200])
    done = run("a", "b", "--format", "json")
    data = json.loads(done.output)
    assert data["counts"] == {"unchanged": 1}
    assert "truncated" in data["problems"][0]
