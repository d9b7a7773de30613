"""`vitbench accept`: make records the baseline that later runs are held against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitbench.cli import options as o
from vitbench.errors import NothingSelectedError, RecordError, UsageError

if TYPE_CHECKING:
    from vitbench.records.index import Loaded

_FAILING = ("failed", "oom", "timeout")


def accept(
    reason: Annotated[str, typer.Option(help="Why these records become the baseline; kept beside them.")],
    records: o.Records = None,
    into: Annotated[Path, typer.Option(help="Where accepted records live.")] = Path("results"),
    allow_failures: Annotated[bool, typer.Option(help="Accept although some cells failed.")] = False,
    recovery: Annotated[bool, typer.Option(help="Keep only the tables of recovery from planted defects.")] = False,
) -> None:
    """Copy the current records and their rows to results/, and write the leaderboard there."""
    from vitbench.records.index import load
    from vitbench.records.store import scan
    from vitbench.reports.acceptance import copy_accepted, keep_recovery

    root = Path(records or o.config().get("records", "runs"))
    loaded = load(root)
    _refuse(loaded, root, allow_failures, reason)
    if recovery:
        tables = keep_recovery(scan(root)[0], into, reason)
        print(f"kept {tables} tables of recovery in {into}: {reason}")
        return
    kept = copy_accepted(loaded, root, into, reason)
    print(f"accepted {kept} records into {into}: {reason}")


def _refuse(loaded: Loaded, root: Path, allow_failures: bool, reason: str) -> None:
    if not reason.strip():
        raise UsageError("a baseline needs a reason", "--reason 'what changed'")
    if loaded.problems:
        raise RecordError(loaded.problems[0].message, "only folders in which every record can be read are accepted")
    if not any(e.status == "ok" for e in loaded.entries):
        raise NothingSelectedError(f"no measured records in {root}", "`vitbench run --all` makes some")
    failing = [e for e in loaded.entries if e.status in _FAILING]
    if failing and not allow_failures:
        s = failing[0].slot
        first = f"{s.backbone} × {s.repair} × {s.task} on {s.dataset}: {failing[0].reason}"
        raise RecordError(f"{len(failing)} cells failed, such as {first}", "mend them, or use --allow-failures")
