"""Records and rows on disk: whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from vitbench.errors import RecordError, StorageError
from vitbench.identity import Slot, cell_identity
from vitbench.records.inference import summarise
from vitbench.records.rows import Measure, Rows
from vitbench.records.schema import Record
from vitbench.records.store import find, read, read_rows, record_path, rows_path, scan, write

SLOT = Slot("lab_ssl+grid[site=late]", "zscore", "depth@ridge", "folder:a/b", 3)
IDENTITY = cell_identity(SLOT, {})
MEAN = Measure("mean", "%", True, lambda s, info: s["x"].sum(-1))


def a_record(slot: Slot = SLOT) -> tuple[Record, Rows]:
    stats = {"x": np.arange(6.0).reshape(3, 2), "third": np.array([1 / 3, np.nan, 2.0])}
    rows = Rows(("u1", "u2", "u3"), ("g", "g", "h"), stats, {"classes": ("a", "b"), "k": np.int64(2)})
    made = Record.ok(
        slot=slot, identity=cell_identity(slot, {}), components={}, headline="mean", metrics=summarise(rows, [MEAN])
    )
    return made, rows


def leftovers(root: Path) -> list[str]:
    return sorted(p.name for p in root.rglob("*") if p.is_file())


def test_record_and_rows_round_trip(tmp_path: Path) -> None:
    record, rows = a_record()
    path = write(tmp_path, record, rows)
    assert path == record_path(tmp_path, SLOT, IDENTITY)
    assert read(path) == record
    again = read_rows(path)
    assert (again.unit_id, again.group_id) == (rows.unit_id, rows.group_id)
    for name, stat in rows.stats.items():
        np.testing.assert_array_equal(again.stats[name], stat)
        assert again.stats[name].dtype == np.float64
    assert again.info == {"classes": ["a", "b"], "k": 2}


def test_measures_of_stored_rows_are_those_of_the_record(tmp_path: Path) -> None:
    record, rows = a_record()
    again = summarise(read_rows(write(tmp_path, record, rows)), [MEAN])["mean"]
    assert again.value == record.metrics["mean"].value


def test_no_part_of_a_name_leaves_its_folder(tmp_path: Path) -> None:
    path = record_path(tmp_path, Slot("../../etc", "a/b", "t@p[x=1]", "folder:/data", 0), "0" * 16)
    assert len(path.relative_to(tmp_path).parts) == 4
    assert ".." not in path.parts


def test_find_needs_the_same_identity(tmp_path: Path) -> None:
    record, rows = a_record()
    write(tmp_path, record, rows)
    assert find(tmp_path, SLOT, IDENTITY) == record
    assert find(tmp_path, SLOT, "0" * 16) is None


def test_replace_false_keeps_what_is_there(tmp_path: Path) -> None:
    record, rows = a_record()
    path = write(tmp_path, record, rows)
    other = Record.missing("unavailable", "gone", slot=SLOT, identity=IDENTITY, components={})
    write(tmp_path, other, None, replace=False)
    assert read(path).status == "ok"
    write(tmp_path, other, None)
    assert read(path).status == "unavailable"
    assert not rows_path(path).exists()


@pytest.mark.parametrize("failing", [1, 2])
@pytest.mark.parametrize(
    ("code", "error", "word"),
    [
        (errno.ENOSPC, StorageError, "no space left"),
        (errno.EROFS, RecordError, "cannot be written"),
        (errno.EIO, RecordError, "Input/output"),
    ],
)
def test_a_failed_write_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, code: int, error: type[Exception], word: str
) -> None:
    calls = []

    def fsync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == failing:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    record, rows = a_record()
    with pytest.raises(error, match=word) as info:
        write(tmp_path, record, rows)
    assert str(tmp_path) in str(info.value)
    assert "--records" in str(info.value)
    assert leftovers(tmp_path) == []


def test_a_failed_write_keeps_the_record_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, rows = a_record()
    path = write(tmp_path, record, rows)

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError):
        write(tmp_path, record, rows)
    assert read(path) == record
    assert leftovers(tmp_path) == sorted([path.name, rows_path(path).name])


def test_a_records_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    root.write_text("")
    with pytest.raises(RecordError, match="runs"):
        write(root, *a_record())


def test_scan_reports_what_is_no_record_and_goes_on(tmp_path: Path) -> None:
    record, rows = a_record()
    path = write(tmp_path, record, rows)
    (path.parent / "cut.json").write_bytes(path.read_bytes()[:200])
    (tmp_path / "other.json").write_text('{"name": 1}')
    (tmp_path / ".hidden.json").write_text("not looked at")
    found, problems = scan(tmp_path)
    assert found == [record]
    assert sorted(p.path.name for p in problems) == ["cut.json", "other.json"]
    assert scan(tmp_path / "nowhere") == ([], [])


def test_truncated_or_absent_rows_are_named(tmp_path: Path) -> None:
    record, rows = a_record()
    path = write(tmp_path, record, rows)
    parquet = rows_path(path)
    parquet.write_bytes(parquet.read_bytes()[:100])
    with pytest.raises(RecordError, match=parquet.name.replace("+", r"\+")):
        read_rows(path)
    parquet.unlink()
    with pytest.raises(RecordError, match="no rows"):
        read_rows(path)


def test_rows_of_no_units_round_trip(tmp_path: Path) -> None:
    empty = Rows((), (), {"x": np.zeros((0, 2))})
    again = read_rows(write(tmp_path, a_record()[0], empty))
    assert len(again) == 0
    assert again.stats["x"].shape == (0, 2)
