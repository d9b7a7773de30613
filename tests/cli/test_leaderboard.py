"""`leaderboard` and `accept` as commands: what they print, write and refuse, with the documented exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from vitbench.cli.accept import accept
from vitbench.cli.leaderboard import leaderboard
from vitbench.errors import NothingSelectedError, RecordError, UsageError, VitbenchError
from vitbench.identity import Slot, cell_identity
from vitbench.records.inference import summarise
from vitbench.records.rows import Measure, Rows
from vitbench.records.schema import Record
from vitbench.records.store import scan, write

GROUPS = tuple(f"g{i}" for i in range(30))
MIOU = Measure("miou", "%", True, lambda s, info: s["x"] / s["n"])
app = typer.Typer()
app.command()(leaderboard)
app.command()(accept)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))


def put(backbone: str, repair: str = "none", value: float = 50.0, root: str = "runs") -> Path:
    slot = Slot(backbone, repair, "linear_segmentation@ridge", "scenes", 0)
    x = value + np.random.default_rng(len(repair)).normal(0, 1, 30)
    rows = Rows(GROUPS, GROUPS, {"x": x, "n": np.ones(30)})
    record = Record.ok(
        slot=slot, identity=cell_identity(slot, {}), components={}, headline="miou",
        metrics=summarise(rows, [MIOU], draws=100), provenance={"utc": "2026-01-01T00:00:00Z"},
    )  # fmt: skip
    return write(Path(root), record, rows)


def put_failed() -> None:
    slot = Slot("lab_ssl", "unit", "linear_segmentation@ridge", "scenes", 0)
    error = {"type": "ValueError", "message": "boom"}
    write(Path("runs"), Record.failed("failed", error, slot=slot, identity=cell_identity(slot, {}), components={}))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=True)


def refused(*arguments: str) -> VitbenchError:
    error = run(*arguments).exception
    assert isinstance(error, VitbenchError), error
    assert "\n" not in str(error)
    return error


def test_an_empty_folder_is_nothing_selected_with_the_remedy() -> None:
    error = refused("leaderboard")
    assert isinstance(error, NothingSelectedError)
    assert error.exit_code == 3
    assert "no records in runs" in str(error)
    assert "vitbench run --all" in str(error)


def test_a_folder_of_unreadable_files_says_what_is_wrong_with_them() -> None:
    put("lab_ssl").write_text("{")
    assert "truncated" in str(refused("leaderboard"))


def test_text_shows_value_difference_and_warnings() -> None:
    put("lab_ssl")
    put("lab_ssl", "zscore", 60.0)
    Path("runs/odd.json").write_text("{}")
    result = run("leaderboard")
    assert result.exit_code == 0, result.exception
    assert "└ zscore" in result.output
    assert "▲" in result.output
    assert "odd.json is not a record" in result.output


def test_records_folder_can_be_named() -> None:
    put("lab_ssl", root="elsewhere")
    assert "lab_ssl" in run("leaderboard", "--records", "elsewhere").output


@pytest.mark.parametrize("fmt", ["text", "md", "csv", "json"])
def test_every_format_goes_to_a_file(fmt: str) -> None:
    put("lab_ssl")
    result = run("leaderboard", "--format", fmt, "--out", "board")
    assert result.exit_code == 0, result.exception
    assert result.output == ""
    assert "lab_ssl" in Path("board").read_text()


def test_an_output_that_cannot_be_written_is_named() -> None:
    put("lab_ssl")
    assert "cannot write no/such/folder" in str(refused("leaderboard", "--out", "no/such/folder"))


def test_filters_keep_rows_and_their_numbers() -> None:
    put("lab_ssl")
    put("lab_ssl", "zscore", 60.0)
    put("lab_sup", "none", 40.0)
    full = {
        (r["backbone"], r["repair"]): r
        for t in json.loads(run("leaderboard", "-f", "json").output)["tables"]
        for r in t["rows"]
    }
    tables = json.loads(run("leaderboard", "-f", "json", "-b", "*ssl", "-r", "z*").output)["tables"]
    (row,) = tables[0]["rows"]
    assert row == full["lab_ssl", "zscore"]
    assert isinstance(refused("leaderboard", "-b", "nobody"), NothingSelectedError)


def test_more_cells_than_a_terminal_takes_are_the_backbones_alone_unless_more_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put("lab_ssl")
    put("lab_ssl", "zscore", 60.0)
    put("lab_sup", "none", 40.0)
    whole = run("leaderboard", "-f", "csv").output
    monkeypatch.setattr("vitbench.cli.leaderboard.MOST_CELLS", 2)
    brief = run("leaderboard").output
    assert "3 cells are too many" in brief
    assert "lab_sup" in brief
    assert "zscore" not in brief
    assert "zscore" in run("leaderboard", "-t", "linear_segmentation").output
    assert "zscore" in run("leaderboard", "--baseline", "nobody").output
    assert run("leaderboard", "-f", "csv").output == whole
    run("leaderboard", "-o", "board.txt")
    assert "zscore" in Path("board.txt").read_text()


def test_a_suite_shows_its_cells_and_what_was_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    put("lab_ssl")
    put("lab_sup", "none", 40.0)
    wanted = {Slot(b, "none", "linear_segmentation@ridge", "scenes", 0) for b in ("lab_ssl", "lab_mae")}
    monkeypatch.setattr("vitbench.cli.options.suite_slots", lambda suite, loaded: frozenset(wanted))
    data = json.loads(run("leaderboard", "--suite", "small", "-f", "json").output)
    assert [r["backbone"] for r in data["tables"][0]["rows"]] == ["lab_ssl"]
    assert [(m["slot"]["backbone"], m["status"]) for m in data["missing"]] == [("lab_mae", "not run")]


def test_accept_copies_records_and_rows_and_says_why() -> None:
    put("lab_ssl")
    put("lab_sup")
    result = run("accept", "--reason", "first baseline")
    assert result.exit_code == 0, result.exception
    records, problems = scan(Path("results/records"))
    assert (len(records), problems) == (2, [])
    assert len(list(Path("results/records").rglob("*.parquet"))) == 2
    note = json.loads(Path("results/accepted.json").read_text())
    assert note["reason"] == "first baseline"
    assert note["utc"].endswith("Z")
    assert "lab_sup" in Path("results/leaderboard.md").read_text()


def test_accept_replaces_the_baseline_that_was_there() -> None:
    old = put("lab_old")
    run("accept", "--reason", "old")
    old.unlink()
    put("lab_new")
    run("accept", "--reason", "new")
    assert [r.slot.backbone for r in scan(Path("results/records"))[0]] == ["lab_new"]
    assert sorted(p.name for p in Path("results").iterdir()) == ["accepted.json", "leaderboard.md", "records"]


def test_accept_refuses_what_is_no_baseline() -> None:
    assert isinstance(refused("accept", "--reason", "x"), NothingSelectedError)
    put("lab_ssl")
    assert isinstance(refused("accept", "--reason", " "), UsageError)
    put_failed()
    error = refused("accept", "--reason", "x")
    assert "1 cells failed" in str(error)
    assert "boom" in str(error)
    assert "--allow-failures" in str(error)
    assert not Path("results").exists()
    assert run("accept", "--reason", "x", "--allow-failures").exit_code == 0


def test_accept_refuses_unreadable_records_and_its_own_folder() -> None:
    put("lab_ssl", root="results/records")
    assert isinstance(refused("accept", "--reason", "x", "--records", "results/records"), RecordError)
    assert scan(Path("results/records"))[0]
    put("lab_ssl").write_text("{")
    assert "truncated" in str(refused("accept", "--reason", "x"))


def _put_a_defect() -> None:
    put("lab_ssl", value=60)
    put("lab_ssl+variance", value=50)
    put("lab_ssl+variance", "zscore", value=59)


def test_recovery_is_a_table_of_its_own_narrowed_like_the_leaderboard() -> None:
    _put_a_defect()
    shown = run("leaderboard", "--recovery")
    assert shown.exit_code == 0, shown.output
    assert "| zscore" in shown.output
    assert run("leaderboard", "--recovery", "-f", "csv").output.splitlines()[1].count("lab_ssl+variance") == 1
    assert isinstance(refused("leaderboard", "--recovery", "-r", "center"), NothingSelectedError)
    assert isinstance(refused("leaderboard", "--recovery", "-f", "tex"), UsageError)


def test_accepting_recovery_keeps_tables_and_why_but_no_records() -> None:
    _put_a_defect()
    assert run("accept", "--recovery", "--into", "kept", "--reason", "first").exit_code == 0
    assert sorted(p.name for p in Path("kept").iterdir()) == ["accepted.json", "recovery.csv", "recovery.md"]
    note = json.loads(Path("kept/accepted.json").read_text())
    assert (note["reason"], note["records"]) == ("first", 3)
