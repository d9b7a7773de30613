"""Records on disk: one JSON per cell and its rows as parquet, each written whole or not at all.

ROOT/<backbone>/<repair>/<task>@<protocol>/<dataset>-s<seed>-<identity>.json (+ .parquet). Folders merge by copying.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.errors import RecordError, StorageError
from vitbench.identity import Slot
from vitbench.paths import file_name
from vitbench.records.rows import Array, Rows
from vitbench.records.schema import Record, parse

_INFO = b"vitbench.info"
_STAT = "stat."


@dataclass(frozen=True)
class Problem:
    """A file among the records that is not one, and why."""

    path: Path
    message: str


def record_path(root: Path, slot: Slot, identity: str) -> Path:
    """Where the record of a cell lies."""
    folder = root / file_name(slot.backbone) / file_name(slot.repair) / file_name(slot.task)
    return folder / f"{file_name(slot.dataset)}-s{slot.seed}-{identity}.json"


def write(root: Path, record: Record, rows: Rows | None = None, replace: bool = True) -> Path:
    """Write a record and its rows; the JSON comes last, so that a record is there only when it is complete.

    With `replace=False` a record of the same identity that is already there stays as it is.
    Raises StorageError where the disk is full and RecordError where the folder cannot be written.
    """
    path = record_path(root, record.slot, record.identity)
    parquet = path.with_name(path.stem + ".parquet")
    if not replace and path.is_file():
        return path
    had_rows = parquet.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if rows is not None:
            write_atomic(parquet, rows_to_parquet(rows))
        try:
            write_atomic(path, record.to_json().encode())
        except OSError:
            if rows is not None and not had_rows:
                parquet.unlink(missing_ok=True)
            raise
        if rows is None:
            parquet.unlink(missing_ok=True)
    except OSError as error:
        raise explained(error, root) from error
    return path


def write_atomic(path: Path, content: bytes) -> None:
    """Temporary name in the same folder, fsync, rename; nothing is left behind on failure. Raises OSError."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def explained(error: OSError, root: Path) -> RecordError | StorageError:
    """What went wrong with writing under a folder, in one line with the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"no space left for records in {root}", "free some space and run again, or use --records DIR"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RecordError(f"the records folder {root} cannot be written", "make it writable, or use --records DIR")
    return RecordError(f"a record cannot be written in {root}: {error.strerror or error}", "use --records DIR")


def read(path: Path) -> Record:
    """The record in a file. Raises RecordError."""
    try:
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise RecordError(f"record {path} cannot be read: {error.strerror or error}") from None


def find(root: Path, slot: Slot, identity: str) -> Record | None:
    """The record of exactly that cell, if there is one."""
    path = record_path(root, slot, identity)
    return read(path) if path.is_file() else None


def records_root(folder: Path) -> Path:
    """Where the records of a folder lie: of accepted ones (`results`) in the folder `records` inside it."""
    return folder / "records" if (folder / "accepted.json").is_file() else folder


def record_files(root: Path) -> Iterator[os.DirEntry[str]]:
    """Every JSON file under a folder, hidden ones aside, in no particular order."""
    folders = [os.fspath(root)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        folders.append(entry.path)
                    elif entry.name.endswith(".json"):
                        yield entry
        except FileNotFoundError:
            continue  # removed while we looked, or never there: no records
        except OSError as error:
            raise RecordError(f"the records folder {root} cannot be read: {error.strerror or error}") from None


def scan(root: Path) -> tuple[list[Record], list[Problem]]:
    """All records under a folder in order of path, and the files that should have been records."""
    records: list[Record] = []
    problems: list[Problem] = []
    for path in sorted(Path(entry.path) for entry in record_files(root)):
        try:
            records.append(read(path))
        except RecordError as error:
            problems.append(Problem(path, str(error)))
    return records, problems


def rows_path(path: Path) -> Path:
    """Where the rows of the record at `path` lie."""
    return path.with_name(path.stem + ".parquet")


def rows_to_parquet(rows: Rows) -> bytes:
    """Rows as parquet: ids, one column per statistic (lists of fixed length for (n, k)), info as JSON in the metadata.

    Statistics are kept in float32 where that is exact, else in float64.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "unit_id": pa.array(rows.unit_id, pa.string()),
        "group_id": pa.array(rows.group_id, pa.string()),
    }
    for name, stat in rows.stats.items():
        narrow = _narrowest(np.asarray(stat, np.float64))
        flat = pa.array(narrow.ravel())
        columns[_STAT + name] = flat if narrow.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, narrow.shape[1])
    table = pa.table(columns).replace_schema_metadata({_INFO: json.dumps(dict(rows.info), default=_plain).encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_rows(path: Path) -> Rows:
    """The rows of a record, by the path of its JSON or of the parquet file. Raises RecordError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = rows_path(path) if path.suffix == ".json" else path
    if not path.is_file():
        raise RecordError(f"no rows at {path}", "run the cell again")
    try:
        table = pq.read_table(path).combine_chunks()
        info = json.loads(table.schema.metadata[_INFO])
        units, groups = (tuple(table[name].to_pylist()) for name in ("unit_id", "group_id"))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise RecordError(f"rows {path} are truncated or not rows of vitbench", "run the cell again") from None
    stats = {n.removeprefix(_STAT): _stat(table[n]) for n in table.column_names if n.startswith(_STAT)}
    return Rows(units, groups, stats, info)


def _stat(column: Any) -> Array:
    import pyarrow as pa

    array = column.combine_chunks()
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    if not pa.types.is_fixed_size_list(array.type):
        return np.asarray(array, np.float64)
    return np.asarray(array.flatten(), np.float64).reshape(-1, array.type.list_size)


def _narrowest(stat: Array) -> Any:
    with np.errstate(over="ignore"):
        narrow = stat.astype(np.float32)
    return narrow if np.array_equal(narrow.astype(np.float64), stat, equal_nan=True) else stat


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"rows: info of type {type(value).__name__} cannot be stored")
