"""The index gives what the files say, whatever happened to them or to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitbench.errors import RecordError
from vitbench.identity import Slot, cell_identity
from vitbench.records import index, reading
from vitbench.records.frames import load_records
from vitbench.records.index import Entry
from vitbench.records.inference import MetricValue
from vitbench.records.schema import Record
from vitbench.records.store import record_files, record_path, write
from vitbench.records.summaries import FIELDS, _step_by_step, comparable_part, summarised


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "WORTHWHILE", 1)


def put(root: Path, name: str, value: float | None = 1.0, utc: str = "2026-01-01", version: int = 1) -> Path:
    slot = Slot(name, "none", "depth@ridge", "scenes", 0)
    components = {"task": {"name": "depth@ridge", "version": version}}
    draws = np.full(8, value or 0, np.float32)
    record = Record.ok(
        slot=slot, identity=cell_identity(slot, components), components=components, headline="rmse",
        metrics={"rmse": MetricValue(value, "m", False, 0.5, 1.5, 8, "", draws, "ab")},
        cost={"fit_seconds": 2.0, "seconds": {"fit": 1.0, "measure": 0.5}, "peak_memory_bytes": 64},
        provenance={"utc": utc, "device": "cpu", "platform": "Linux"}, flags={"odd": True, "lambda": 3},
    )  # fmt: skip
    return write(root, record)


def values(root: Path) -> dict[str, float | None]:
    """By index and directly; they must agree."""
    loaded, direct = index.load(root), index.load(root, use_index=False)
    assert [(e.path, e.value) for e in loaded.entries] == [(e.path, e.value) for e in direct.entries]
    assert loaded.superseded == direct.superseded
    assert len(loaded.problems) == len(direct.problems)
    return {e.slot.backbone: e.value for e in loaded.entries}


def test_an_entry_is_a_summary_between_its_path_and_its_replicates() -> None:
    assert Entry._fields == ("path", *FIELDS, "draws")


def test_an_entry_holds_what_tables_need(tmp_path: Path) -> None:
    path = put(tmp_path / "runs", "a", 0.7)
    for _ in range(2):  # read from the file, then from the index
        (entry,) = index.load(tmp_path / "runs").entries
        assert entry.path == str(path.relative_to(tmp_path / "runs"))
        assert (entry.metric, entry.unit, entry.value, entry.n) == ("rmse", "m", 0.7, 8)
        assert (entry.fit_seconds, entry.flags) == (2.0, ("odd",))
        assert (entry.seconds, entry.peak_memory_bytes, entry.machine) == (1.5, 64, "cpu Linux")
        assert entry.draws is not None
        np.testing.assert_array_equal(entry.draws, np.full(8, 0.7, np.float32))


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text,
        lambda text: text.replace('"value": 1.0', '"value": null'),
        lambda text: text.replace('"metrics": {', '"metrics": {"broken": {"value": "high"},'),
        lambda text: text.replace('"draws": {', '"draws": {"broken": "!",'),
        lambda text: text.replace('"odd": true', '"odd": NaN'),
        lambda text: text.replace('"seconds": {', '"unheard_of": 1, "seconds": {'),
        lambda text: text.replace('"status": "ok"', '"status": "fine"'),
        lambda text: text.replace('"headline": "rmse"', '"headline": "other"'),
        lambda text: text.replace('"schema_version": 1', '"schema_version": 99'),
        lambda text: text[: len(text) // 2],
    ],
)
def test_reading_in_one_go_says_what_reading_step_by_step_says(damage: Callable[[str], str], tmp_path: Path) -> None:
    path = put(tmp_path, "a")
    path.write_text(damage(path.read_text()))

    def told(read: Callable[[], tuple[object, bytes]]) -> object:
        try:
            return read()
        except RecordError as error:
            return str(error)

    quick = told(lambda: summarised(str(path)))
    assert quick == told(lambda: _step_by_step(path.read_bytes(), str(path)))


def test_files_added_removed_and_replaced_are_seen(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    put(root, "a", 1.0)
    gone = put(root, "b", 2.0)
    assert values(root) == {"a": 1.0, "b": 2.0}
    gone.unlink()
    put(root, "c", 3.0)
    os.utime(put(root, "a", 4.0), (0, 0))  # equal in size, and the clock of the file system need not have ticked since
    assert values(root) == {"a": 4.0, "c": 3.0}


def test_a_replacement_of_equal_size_and_mtime_is_seen(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    path = put(root, "a", 1.0)
    before = path.stat()
    assert values(root) == {"a": 1.0}
    put(root, "a", 2.0)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of the file system has not ticked since
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert values(root) == {"a": 2.0}


def test_a_damaged_index_is_passed_over_and_made_anew(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    put(root, "a", 1.0)
    assert values(root) == {"a": 1.0}
    (stored,) = (tmp_path / "cache").rglob("*.sqlite")
    stored.write_bytes(b"this is no database at all" * 100)
    assert values(root) == {"a": 1.0}
    assert values(root) == {"a": 1.0}


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    put(tmp_path / "runs", "a", 1.0)
    assert values(tmp_path / "runs") == {"a": 1.0}


def test_the_newest_identity_of_a_slot_is_current(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    put(root, "a", 1.0, utc="2026-01-02", version=1)
    put(root, "a", 2.0, utc="2026-01-01", version=2)
    assert values(root) == {"a": 1.0}
    assert index.load(root).superseded == 1


def test_unavailable_does_not_take_back_a_number_but_a_failure_does(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    put(root, "a", 1.0, utc="2026-01-01")
    slot = Slot("a", "none", "depth@ridge", "scenes", 0)
    later = {"utc": "2026-02-01"}
    write(root, Record.missing("unavailable", "gone", slot=slot, identity="0" * 16, components={}, provenance=later))
    assert values(root) == {"a": 1.0}
    write(root, Record.missing("failed", "boom", slot=slot, identity="1" * 16, components={}, provenance=later))
    assert values(root) == {"a": None}


def test_problems_are_remembered_and_forgotten_with_their_file(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    path = put(root, "a", 1.0)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    for _ in range(2):
        assert [p.path for p in index.load(root).problems] == [path]
    path.write_bytes(whole)
    assert values(root) == {"a": 1.0}


def test_a_file_that_goes_while_the_folder_is_listed_is_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runs"
    put(root, "a", 1.0)
    gone = put(root, "b", 2.0)

    def listed(folder: Path) -> list[os.DirEntry[str]]:
        found = list(record_files(folder))
        gone.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(index, "record_files", listed)
    assert values(root) == {"a": 1.0}


def test_a_missing_folder_is_an_empty_one(tmp_path: Path) -> None:
    assert index.load(tmp_path / "nowhere").entries == ()


def test_comparable_follows_version_and_images_but_not_what_a_repair_was_fitted_on() -> None:
    def part(version: int, **splits: str) -> object:
        task = {"name": "some_val_task@x", "version": version}
        return comparable_part({"task": task, "data": {"name": "d", "version": 1, "splits": splits}})

    assert part(1, val="v") == part(1, val="v", train="t")
    assert part(1, val="v") != part(2, val="v")
    assert part(1, val="v") != part(1, val="w")


def test_frame_has_one_row_per_record_and_metric(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    put(root, "a", 1.0)
    put(root, "b", None)
    slot = Slot("c", "none", "depth@ridge", "scenes", 0)
    write(root, Record.missing("not_applicable", "why", slot=slot, identity="0" * 16, components={}))
    assert record_path(root, slot, "0" * 16).is_file()
    frame = load_records(root)
    assert frame["backbone"].tolist() == ["a", "b", "c"]
    assert frame["status"].tolist() == ["ok", "ok", "not_applicable"]
    assert frame["value"].isna().tolist() == [False, True, True]
    assert load_records(tmp_path / "nowhere").empty


@pytest.mark.parametrize("python", [sys.executable, "/bin/false"], ids=["helpers", "helpers that die"])
def test_helpers_read_what_one_process_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    root = tmp_path / "runs"
    for i in range(9):
        put(root, f"model-{i}", float(i))
    (root / "broken.json").write_text("{")
    alone = index.load(root, use_index=False)
    monkeypatch.setattr(reading, "SHARED", 1)
    monkeypatch.setattr(reading, "_cores", lambda: 3)
    monkeypatch.setattr(sys, "executable", python)
    shared = index.load(root, use_index=False)
    assert shared.problems == alone.problems
    assert [(e.path, e.value, e.comparable) for e in shared.entries] == [
        (e.path, e.value, e.comparable) for e in alone.entries
    ]
    assert all(np.array_equal(a.draws, b.draws) for a, b in zip(shared.entries, alone.entries, strict=True))  # type: ignore[arg-type]
