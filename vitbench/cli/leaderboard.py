"""`vitbench leaderboard`: tables from records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitbench.cli import options as o
from vitbench.errors import NothingSelectedError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vitbench.identity import Slot
    from vitbench.records.index import Loaded

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
    from vitbench.reports.leaderboard import build

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
    filters = (backbones, repairs, tasks, datasets)
    wanted = _filter(*filters, baseline=baseline)
    kept = _narrowed(loaded, lambda slot: wanted(slot) and (not suite or slot in planned))
    if not kept.entries:
        named = " ".join([f"of suite {suite}"] * bool(suite) + ["for this selection"] * any(filters))
        raise NothingSelectedError(f"no records {named} in {root}", "`vitbench run` with the same options makes them")
    board = build(kept, baseline, [slot for slot in planned if wanted(slot)])
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


def _filter(
    backbones: str | None, repairs: str | None, tasks: str | None, datasets: str | None, baseline: str
) -> Callable[[Slot], bool]:
    """Globs over slots. The baseline stays, or there is nothing to take differences to."""
    from vitbench.catalogue.resolve import matches
    from vitbench.selection import split_list

    axes = [split_list(text or "") for text in (backbones, repairs, tasks, datasets)]

    def kept(patterns: list[str], name: str) -> bool:
        return not patterns or any(matches(pattern, name) for pattern in patterns)

    def wanted(slot: Slot) -> bool:
        names = (slot.backbone, slot.repair, slot.task, slot.dataset)
        keeps = [kept(patterns, name) for patterns, name in zip(axes, names, strict=True)]
        return all(keeps) or (all(keeps[i] for i in (0, 2, 3)) and slot.repair == baseline)

    return wanted


def _narrowed(loaded: Loaded, wanted: Callable[[Slot], bool]) -> Loaded:
    from dataclasses import replace

    return replace(loaded, entries=tuple(e for e in loaded.entries if wanted(e.slot)))
