"""`vitbench export`: records as one table, or in the schema of Every Eval Ever."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitbench.cli import options as o
from vitbench.errors import NothingSelectedError, RecordError, UsageError

if TYPE_CHECKING:
    from vitbench.records.schema import Record

_SHOWN_PROBLEMS = 5
Format = Literal["parquet", "csv", "eval-ever"]
Relationship = Literal["first_party", "third_party", "collaborative", "other"]


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="A file; for eval-ever a folder.")],
    records: o.Records = None,
    backbones: o.Backbones = None,
    repairs: o.Repairs = None,
    tasks: o.Tasks = None,
    datasets: o.Datasets = None,
    format: Annotated[
        Format | None, typer.Option("--format", "-f", help="(default: by the ending of --out, .parquet or .csv)")
    ] = None,
    organisation: Annotated[str | None, typer.Option(help="Who measured; eval-ever wants to know.")] = None,
    relationship: Annotated[
        Relationship, typer.Option(help="Of who measured to who made the models, for eval-ever.")
    ] = "third_party",
) -> None:
    """Write the current records as one table (a row per cell and metric), or for other leaderboards."""
    kind = format or _by_ending(out)
    found = _current(records, (backbones, repairs, tasks, datasets))
    if kind == "eval-ever":
        _eval_ever(found, out, organisation, relationship)
        return
    from vitbench.records.frames import frame

    table = frame(found)
    try:
        if kind == "csv":
            table.to_csv(out, index=False, lineterminator="\n")
        else:
            table.to_parquet(out, index=False)
    except OSError as error:
        raise RecordError(f"cannot write {out}: {error.strerror or error}", "name another file with --out") from None
    print(f"{len(table)} rows of {len(found)} records in {out}")


def _by_ending(out: Path) -> Format:
    if out.suffix == ".csv":
        return "csv"
    if out.suffix == ".parquet":
        return "parquet"
    raise UsageError(f"--out {out} does not say which format", "end it in .parquet or .csv, or give --format")


def _current(folder: Path | None, axes: tuple[str | None, ...]) -> list[Record]:
    """The newest record of each slot of the selection, ordered by slot."""
    from vitbench.records.index import load
    from vitbench.records.store import read, records_root

    root = records_root(Path(folder or o.config().get("records", "runs")))
    loaded, wanted = o.loaded_or_refused(load(root), root), o.axis_filter(*axes)
    for problem in loaded.problems[:_SHOWN_PROBLEMS]:
        print(f"warning: {problem.message}", file=sys.stderr)
    if len(loaded.problems) > _SHOWN_PROBLEMS:
        print(f"warning: {len(loaded.problems)} files in all are no records", file=sys.stderr)
    found = [
        read(root / e.path)
        for e in loaded.entries
        if wanted(e.slot.backbone, e.slot.repair, e.slot.task, e.slot.dataset)
    ]
    if not found:
        raise NothingSelectedError(f"no records for this selection in {root}", "loosen -b, -r, -t or -d")
    return found


def _eval_ever(found: list[Record], out: Path, organisation: str | None, relationship: Relationship) -> None:
    from vitbench.reports.eval_ever import export as exported

    if not organisation:
        raise UsageError("eval-ever needs to know who measured", "--organisation NAME")
    made = exported(found, organisation, relationship)
    if not made.documents:
        raise NothingSelectedError("no measured metric to export", "`vitbench run` makes some")
    for name, text in made.documents.items():
        path = out / name
        o.make_folder(path.parent)
        o.write_text(path, text)
    left = f"; {made.left_out} metrics without value or upper bound left out" if made.left_out else ""
    print(f"{made.results} results of {len(made.documents)} models in {out}{left}")
