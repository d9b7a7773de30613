"""`vitbench leaderboard`: tables from records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitbench.cli import options as o
from vitbench.errors import NothingSelectedError, UsageError

if TYPE_CHECKING:
    from vitbench.identity import Slot
    from vitbench.reports.leaderboard import Wanted

Format = Literal["text", "md", "csv", "json", "html", "tex"]
By = Literal["task", "family", "backbone"]

MOST_CELLS = 5000  # more are not shown unless asked for
TOO_MANY = (
    "{cells} cells are too many for a terminal: these are the backbones with repair {baseline}. Tables are shown of what "
    "-t, -d, -r or -b name; -o FILE or -f csv write all."
)


def leaderboard(
    records: o.Records = None,
    suite: o.Suite = None,
    backbones: o.Backbones = None,
    repairs: o.Repairs = None,
    tasks: o.Tasks = None,
    datasets: o.Datasets = None,
    baseline: Annotated[str, typer.Option(help="The repair that differences are taken to.")] = "none",
    by: Annotated[By, typer.Option(help="A chapter per kind of table, per family of tasks, or per backbone.")] = "task",
    recovery: Annotated[
        bool, typer.Option(help="What repairs win back of planted defects instead; as md or csv.")
    ] = False,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = "text",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file to write to instead of the terminal.")] = None,
) -> None:
    """Show the leaderboard of a folder of records, with intervals and paired differences."""
    from vitbench.records.index import load
    from vitbench.records.store import records_root
    from vitbench.reports.formats import FORMATS, to_text
    from vitbench.reports.leaderboard import build
    from vitbench.reports.published import load_published

    root = records_root(Path(records or o.config().get("records", "runs")))
    loaded = o.loaded_or_refused(load(root), root)
    planned = o.suite_slots(suite, loaded) if suite else frozenset()
    wanted = o.axis_filter(backbones, repairs, tasks, datasets)
    if recovery:
        o.show_or_write(out, _recovery(root, planned, wanted, format))
        return
    if suite:
        loaded = replace(loaded, entries=tuple(e for e in loaded.entries if e.slot in planned))
    cells = len(loaded.entries)
    # More than anybody reads in a terminal, and nothing was said of which.
    brief = format == "text" and out is None and not any((backbones, repairs, tasks, datasets)) and cells > MOST_CELLS
    if brief := brief and any(e.slot.repair == baseline for e in loaded.entries):
        loaded = replace(loaded, entries=tuple(e for e in loaded.entries if e.slot.repair == baseline))
    board = build(loaded, baseline, planned, load_published(), wanted)
    if not (board.tables or board.missing) or not loaded.entries:
        named = f"of suite {suite} " if suite else ""
        raise NothingSelectedError(f"no records {named}for this selection in {root}", "`vitbench run` makes them")
    if brief:
        print(f"{to_text(board, by, tables=False)}\n{TOO_MANY.format(cells=cells, baseline=baseline)}")
    else:
        o.show_or_write(out, FORMATS[format](board, by))


def _recovery(root: Path, planned: frozenset[Slot], wanted: Wanted, format: Format) -> str:
    from vitbench.records.store import scan
    from vitbench.reports import recovery as r

    if format not in ("text", "md", "csv"):
        raise UsageError(f"recovery is not written as {format}", "use --format md or csv")
    kept = [record for record in scan(root)[0] if not planned or record.slot in planned]
    tables = r.recovery_tables(kept, wanted)
    if not tables:
        raise NothingSelectedError(
            f"no planted defect beside its clean backbone in {root}", "`vitbench run --suite recovery` measures some"
        )
    return r.to_csv(tables) if format == "csv" else r.to_markdown(tables, "Recovery from planted defects")
