"""`vitbench report`: everything the records say as one static page."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitbench.cli import options as o
from vitbench.errors import NothingSelectedError, VitbenchError

if TYPE_CHECKING:
    from vitbench.reports.gallery import Gallery
    from vitbench.reports.leaderboard import Leaderboard

GALLERY_BACKBONES, GALLERY_REPAIRS, GALLERY_IMAGES = 2, 12, 4


def report(
    records: o.Records = None,
    suite: o.Suite = None,
    backbones: o.Backbones = None,
    repairs: o.Repairs = None,
    tasks: o.Tasks = None,
    datasets: o.Datasets = None,
    baseline: Annotated[str, typer.Option(help="The repair that differences are taken to.")] = "none",
    out: Annotated[Path, typer.Option("--out", "-o", help="The page.")] = Path("page.html"),
    title: Annotated[str, typer.Option(help="Its title.")] = "vitbench",
    gallery: Annotated[
        bool, typer.Option("--gallery/--no-gallery", help="Draw tokens of two backbones whose weights are here; takes a minute.")
    ] = True,
    images: Annotated[
        str, typer.Option(help="Its images, comma-separated: scenes:INDEX, files, a folder.")
    ] = "scenes:0,scenes:3",
    data_root: o.DataRoot = None, weights: o.Weights = None, plugin: o.Plugin = None, device: o.Device = "auto",
) -> None:  # fmt: skip
    """Write one self-contained HTML page: tables, heat maps, recovery, norms, galleries, cost, provenance."""
    from vitbench.records.index import load
    from vitbench.records.store import records_root
    from vitbench.reports.leaderboard import build
    from vitbench.reports.page import page
    from vitbench.reports.page_details import details
    from vitbench.reports.published import load_published

    root = records_root(Path(records or o.config().get("records", "runs")))
    loaded = o.loaded_or_refused(load(root), root)
    planned = o.suite_slots(suite, loaded) if suite else frozenset()
    if suite:
        loaded = replace(loaded, entries=tuple(e for e in loaded.entries if e.slot in planned))
    wanted = o.axis_filter(backbones, repairs, tasks, datasets)
    board = build(loaded, baseline, planned, load_published(), wanted)
    if not (board.tables or board.missing) or not loaded.entries:
        named = f"of suite {suite} " if suite else ""
        raise NothingSelectedError(f"no records {named}for this selection in {root}", "`vitbench run` makes them")
    entries = [e for e in loaded.entries if wanted(e.slot.backbone, e.slot.repair, e.slot.task, e.slot.dataset)]
    galleries, notes = _galleries(board, images, data_root, weights, plugin, device) if gallery else ([], [])
    found = details(root, entries)
    text = page(board, replace(found, notes=(*notes, *found.notes)), galleries, title)
    o.write_text(out, text)
    print(f"wrote {out}, {len(text.encode()) / 1e6:.1f} MB")


def _galleries(
    board: Leaderboard,
    images: str,
    data_root: Path | None,
    weights: list[str] | None,
    plugin: list[str] | None,
    device: str,
) -> tuple[list[Gallery], list[str]]:
    """Galleries of the chosen backbones, and why there is none of one. Nothing is downloaded."""
    from vitbench.engine.jobs import Workbench
    from vitbench.inspection.inspect import Settings, inspect
    from vitbench.inspection.pictures import gather
    from vitbench.reports.gallery import gallery
    from vitbench.reports.page_board import repaired_backbones
    from vitbench.selection import split_list

    options = o.run_options(None, None, data_root, weights, plugin, device=device, offline=True)
    pictures = gather(split_list(images), GALLERY_IMAGES)
    settings = Settings(predict=True, say=lambda text: print(f"gallery: {text}", file=sys.stderr))
    made: list[Gallery] = []
    notes: list[str] = []
    for backbone, repairs in repaired_backbones(board):
        if len(made) == GALLERY_BACKBONES:
            break
        try:
            found = inspect(
                Workbench(options), backbone, [board.baseline, *repairs[:GALLERY_REPAIRS]], pictures, settings
            )
        except VitbenchError as error:
            notes.append(f"no gallery of {backbone}: {error}")
            print(notes[-1], file=sys.stderr)
            continue
        made.append(gallery(found, without=("similar x", "similar +")))
    return made, notes
