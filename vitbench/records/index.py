"""Many records, quickly: what tables need of each, and a cache of it that may be deleted at any time.

An entry is valid only for the size, mtime and ctime of its file, so files that are replaced, removed or copied in are
seen; a cache that is damaged, locked or cannot be written is passed over.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic_core import from_json

from vitbench.identity import Slot, digest
from vitbench.paths import cache_dir
from vitbench.records.collector import collector_paused
from vitbench.records.inference import Draws, Estimate
from vitbench.records.reading import read_many
from vitbench.records.schema import SCHEMA_VERSION, Record
from vitbench.records.store import Problem, record_files
from vitbench.records.summaries import Summary, summary_of

WORTHWHILE = 1500  # of fewer records no index is kept
_FORMAT = 5
_PAGE_BYTES = 1 << 16  # replicates of a record within one page


class Entry(NamedTuple):
    """What tables need of a record: path, the FIELDS of a summary, and the replicates of its headline.

    path: relative to the records folder.
    comparable: digest of what must agree before two numbers may be compared (`comparable_part` of the identity).
    version: of the protocol.
    flags: names of the remarks that are set. seconds: of all phases. machine: what it ran on, as far as it is recorded.
    """

    path: str
    slot: Slot
    identity: str
    status: str
    reason: str = ""
    remedy: str = ""
    metric: str = ""
    unit: str = ""
    higher_is_better: bool = True
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    note: str = ""
    draws_key: str = ""
    comparable: str = ""
    version: str = ""
    forwards_per_image: float | None = None
    fit_seconds: float | None = None
    extra_parameters: int | None = None
    peak_memory_bytes: int | None = None
    seconds: float | None = None
    machine: str = ""
    commit: str = ""
    dirty: bool | None = None
    utc: str = ""
    flags: tuple[str, ...] = ()
    draws: Draws | None = None

    @staticmethod
    def of(record: Record, path: str = "") -> Entry:
        """The entry of a record."""
        return _entry(path, *summary_of(record))

    @property
    def estimate(self) -> Estimate | None:
        """The headline with its replicates; None where it has no value."""
        return None if self.value is None else Estimate(self.value, self.draws, self.draws_key, self.n)


@dataclass(frozen=True)
class Loaded:
    """The current records of a folder (per slot the newest), how many older ones there are, and what is no record."""

    entries: tuple[Entry, ...]
    superseded: int = 0
    problems: tuple[Problem, ...] = ()


Cached = tuple[str, bytes, bytes]  # stamp of the file, summary as JSON, replicates as float32


@collector_paused()
def load(root: Path, use_index: bool = True) -> Loaded:
    """Everything under a records folder, ordered by slot. A missing folder is an empty one."""
    root = root.resolve()
    skip = len(str(root)) + 1
    known = _read_index(root) if use_index else {}
    stamps: dict[str, str] = {}

    def changed() -> Iterator[str]:
        for entry in record_files(root):
            name = entry.path[skip:]
            with suppress(FileNotFoundError):  # removed while we looked
                stamps[name] = _stamp(entry)
                if name not in known or known[name][0] != stamps[name]:
                    yield entry.path

    fresh = {path[skip:]: (stamps[path[skip:]], *read) for path, read in read_many(changed()).items()}
    entries: list[Entry] = []
    problems: list[Problem] = []
    for name in stamps:
        _, content, draws = fresh.get(name) or known[name]
        summary = from_json(content)
        if isinstance(summary, str):
            problems.append(Problem(root / name, summary))
        else:
            entries.append(_entry(name, summary, draws))
    gone = known.keys() - stamps.keys()
    if use_index and len(stamps) >= WORTHWHILE and (fresh or gone):
        _update_index(root, fresh, gone)
    kept = current(entries)
    return Loaded(tuple(kept), len(entries) - len(kept), tuple(sorted(problems, key=lambda p: p.path)))


def current(entries: Iterable[Entry]) -> list[Entry]:
    """The newest entry of each slot (by UTC, then identity), ordered by slot.

    `unavailable` gives way to any other: weights that are gone today do not take back a number measured yesterday.
    """
    newest: dict[tuple[str, str, str, str, int], Entry] = {}  # plain tuples are hashed and sorted sooner than slots
    for entry in entries:
        slot = entry.slot
        key = slot.backbone, slot.repair, slot.task, slot.dataset, slot.seed
        held = newest.get(key)
        if held is None or _age(held) < _age(entry):
            newest[key] = entry
    return [newest[key] for key in sorted(newest)]


def _age(entry: Entry) -> tuple[bool, str, str]:
    return entry.status != "unavailable", entry.utc, entry.identity


def _stamp(entry: os.DirEntry[str]) -> str:
    status = entry.stat()
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _entry(path: str, summary: Summary, draws: bytes) -> Entry:
    slot, *values, flags = summary
    replicates = np.frombuffer(draws, "<f4") if draws else None
    return Entry._make((path, Slot(*slot), *values, tuple(flags), replicates))


def _index_path(root: Path) -> Path:
    return cache_dir() / "records" / f"{digest(str(root))}.v{_FORMAT}-{SCHEMA_VERSION}.sqlite"


def _read_index(root: Path) -> dict[str, Cached]:
    path = _index_path(root)
    if not path.is_file():
        return {}
    try:
        with closing(sqlite3.connect(path, timeout=1)) as db:
            return {row[0]: row[1:] for row in db.execute("SELECT path, stamp, summary, draws FROM entries")}
    except sqlite3.Error:
        return {}


def _update_index(root: Path, fresh: dict[str, Cached], gone: Iterable[str]) -> None:
    path = _index_path(root)
    columns = "(path TEXT PRIMARY KEY, stamp TEXT, summary BLOB, draws BLOB)"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=1)) as db, db:
            db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            db.execute("PRAGMA synchronous = OFF")  # a cache: what a crash damages is passed over and made anew
            db.execute(f"CREATE TABLE IF NOT EXISTS entries {columns}")
            db.executemany("DELETE FROM entries WHERE path = ?", ((name,) for name in gone))
            rows = ((name, *cached) for name, cached in fresh.items())
            db.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)
    except (sqlite3.OperationalError, OSError):
        return  # locked, full or read-only: tables are right without it
    except sqlite3.DatabaseError:
        path.unlink(missing_ok=True)  # damaged: the next reader starts a new one
