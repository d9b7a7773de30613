"""`vitbench leaderboard`: tables from records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitbench.cli import options as o
from vitbench.errors import NothingSelectedError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vitbench.identity import Slot

Format = Literal["text", "md", "csv", "json"]


def leaderboard(
    records: o.Records = None,
    suite: o.Suite = None,
    backbones: o.Backbones = None,
    repairs: o.Repairs = None,
    tasks: o.Tasks = None,
    datasets: o.Datasets = None,
    baseline: Annotated[str, typer.Option(help="The repair that differences are taken to.")] = "none",
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = "text",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file to write to instead of the terminal.")] = None,
) -> None:
    """Show the leaderboard of a folder of records, with intervals and paired differences."""
    from vitbench.records.index import load
    from vitbench.reports.formats import FORMATS
    from vitbench.reports.leaderboard import build, narrowed

    root = Path(records or o.config().get("records", "runs"))
    loaded = load(root)
    if not loaded.entries:
        found = (
            f"; {len(loaded.problems)} files there cannot be read: {loaded.problems[0].message}"
            if loaded.problems
            else ""
        )
        raise NothingSelectedError(
            f"no records in {root}{found}", "`vitbench run --all` makes some, --records DIR names others"
        )
    planned = _planned(suite) if suite else frozenset()
    if suite:
        loaded = replace(loaded, entries=tuple(e for e in loaded.entries if e.slot in planned))
    board = narrowed(build(loaded, baseline, planned), _filter(backbones, repairs, tasks, datasets))
    if not (board.tables or board.missing) or not loaded.entries:
        named = f"of suite {suite} " if suite else ""
        raise NothingSelectedError(f"no records {named}for this selection in {root}", "`vitbench run` makes them")
    text = FORMATS[format](board)
    if out is None:
        print(text, end="")
        return
    _write(out, text)


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecordError(f"cannot write {out}: {error.strerror or error}", "name another file with --out") from None


def _planned(suite: str) -> frozenset[Slot]:
    from vitbench.choices import Filters, choose
    from vitbench.identity import Slot

    choices = choose(suite, Filters()).choices
    return frozenset(Slot(c.backbone, c.repair, c.task.text, c.dataset, c.seed) for c in choices)


def _filter(*axes: str | None) -> Callable[[str, str, str, str], bool]:
    """Comma-separated globs over backbone, repair, task and dataset; None keeps all."""
    from vitbench.catalogue.resolve import matches
    from vitbench.selection import split_list

    patterns = [split_list(text or "") for text in axes]

    def wanted(*names: str) -> bool:
        return all(not p or any(matches(one, name) for one in p) for p, name in zip(patterns, names, strict=True))

    return wanted
