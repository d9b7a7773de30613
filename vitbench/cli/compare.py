"""`vitbench compare`: two folders of records, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitbench.cli import options as o
from vitbench.errors import NothingSelectedError, UsageError

if TYPE_CHECKING:
    from vitbench.records.index import Entry, Loaded

REGRESSION = 4
Format = Literal["text", "md", "html", "json", "junit"]


def compare(
    baseline: Annotated[Path, typer.Argument(help="A folder of records, or of accepted ones, such as results.")],
    candidate: Annotated[Path, typer.Argument(help="The folder of records to hold against it.")],
    suite: o.Suite = None,
    backbones: o.Backbones = None,
    repairs: o.Repairs = None,
    tasks: o.Tasks = None,
    datasets: o.Datasets = None,
    fail_on: Annotated[
        str,
        typer.Option(help="Comma-separated: regression, missing, failed, not-comparable, drifted, slower; or none."),
    ] = "regression",
    thresholds: Annotated[Path | None, typer.Option(help="A TOML file in place of the shipped thresholds.")] = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to write it.")] = "text",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file to write to instead of the terminal.")] = None,
) -> None:
    """Compare two folders of records by paired tests; exit code 4 where the candidate fails."""
    from vitbench.records.evidence import FileEvidence
    from vitbench.records.store import records_root
    from vitbench.reports.comparison import compare as compared
    from vitbench.reports.comparison_formats import FORMATS, verdict
    from vitbench.reports.thresholds import load_thresholds

    wanted = parse_fail_on(fail_on)
    roots = records_root(baseline), records_root(candidate)
    (before, first), (after, second) = (_entries(root, suite, backbones, repairs, tasks, datasets) for root in roots)
    found = compared(
        before,
        after,
        load_thresholds(thresholds),
        FileEvidence(*roots),
        (str(baseline), str(candidate)),
        tuple(p.message for p in (*first.problems, *second.problems)),
    )
    if not found.pairs:
        raise NothingSelectedError(
            f"{baseline} and {candidate} have no measured cell in this selection", "loosen -b, -r, -t, -d or --suite"
        )
    text = FORMATS[format](found, wanted)
    if out is None:
        print(text, end="")
    else:
        o.write_text(out, text)
        print(verdict(found, wanted))
    if found.failing(wanted):
        raise typer.Exit(REGRESSION)


def parse_fail_on(text: str) -> tuple[str, ...]:
    """Comma-separated kinds as statuses of a comparison. Raises UsageError."""
    from vitbench.reports.comparison_formats import FAIL_ON
    from vitbench.selection import split_list

    names = [name.replace("-", " ") for name in split_list(text) if name != "none"]
    for name in names:
        if name not in FAIL_ON:
            known = ", ".join(n.replace(" ", "-") for n in FAIL_ON)
            raise UsageError(f"--fail-on {name!r} is not known", f"it may have {known}, or be none")
    return tuple(names)


def _entries(root: Path, suite: str | None, *axes: str | None) -> tuple[tuple[Entry, ...], Loaded]:
    """What a folder holds of the selection. Raises NothingSelectedError for a folder without records."""
    from vitbench.records.index import load

    loaded = o.loaded_or_refused(load(root), root)
    slots = o.suite_slots(suite, loaded) if suite else None
    wanted = o.axis_filter(*axes)
    kept = [
        e
        for e in loaded.entries
        if (slots is None or e.slot in slots) and wanted(e.slot.backbone, e.slot.repair, e.slot.task, e.slot.dataset)
    ]
    return tuple(kept), loaded
