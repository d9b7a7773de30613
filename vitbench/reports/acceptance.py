"""Accepted records: the baseline in `results/`, its generated leaderboard, and why it was accepted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from vitbench.errors import RecordError
from vitbench.records.index import Loaded, load
from vitbench.records.provenance import git_state, utc_now
from vitbench.records.schema import Record
from vitbench.records.store import explained, rows_path, write_atomic
from vitbench.reports.formats import to_markdown
from vitbench.reports.leaderboard import build
from vitbench.reports.published import load_published
from vitbench.reports.recovery import recovery_tables
from vitbench.reports.recovery import to_csv as recovery_csv
from vitbench.reports.recovery import to_markdown as recovery_markdown


def keep_recovery(records: list[Record], into: Path, reason: str) -> int:
    """Write INTO/recovery.md, recovery.csv and accepted.json, without the records behind them; how many tables.

    Raises StorageError.
    """
    tables = recovery_tables(records)
    try:
        into.mkdir(parents=True, exist_ok=True)
        write_atomic(into / "recovery.md", recovery_markdown(tables, "Recovery from planted defects").encode())
        write_atomic(into / "recovery.csv", recovery_csv(tables).encode())
        commits = sorted({str(r.provenance.get("commit", "")) for r in records if r.status == "ok"})
        write_atomic(into / "accepted.json", _note(reason, records=len(records), measured_at=commits))
    except OSError as error:
        raise explained(error, into) from error
    return len(tables)


def _note(reason: str, **more: object) -> bytes:
    commit, dirty = git_state()
    note = {"reason": reason, "utc": utc_now(), "commit": commit, "dirty": dirty, **more}
    return (json.dumps(note, indent=1) + "\n").encode()


def copy_accepted(loaded: Loaded, root: Path, into: Path, reason: str) -> int:
    """Replace INTO/records by the current records under `root`, write leaderboard.md and accepted.json; how many.

    The old records go only once the new ones are complete. Raises StorageError or RecordError.
    """
    target, staged, replaced = into / "records", into / ".records-new", into / ".records-old"
    if root.resolve() == target.resolve():
        raise RecordError(f"{root} is where accepted records live", "accept the records of a run")
    try:
        shutil.rmtree(staged, ignore_errors=True)
        for entry in loaded.entries:
            source, copy = root / entry.path, staged / entry.path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            if rows_path(source).is_file():
                shutil.copyfile(rows_path(source), rows_path(copy))
        shutil.rmtree(replaced, ignore_errors=True)
        if target.exists():
            target.rename(replaced)
        staged.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)
        board = build(load(target, use_index=False), published=load_published())
        write_atomic(into / "leaderboard.md", to_markdown(board).encode())
        write_atomic(into / "accepted.json", _note(reason, records=len(loaded.entries)))
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        raise explained(error, into) from error
    return len(loaded.entries)
