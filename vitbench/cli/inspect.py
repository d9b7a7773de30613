"""`vitbench inspect BACKBONE[,REPAIR...] IMAGE...`: what a backbone sees, for the first minute with a new model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitbench.cli import options as o
from vitbench.errors import RecordError, UsageError

if TYPE_CHECKING:
    from vitbench.inspection.looks import Inspection

PNG_DPI = 100


def inspect(
    model: Annotated[
        str, typer.Argument(metavar="BACKBONE[,REPAIR...]", help="A backbone, defects after +, then repairs to put beside it.")
    ],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Files, a folder, or scenes[:INDEX] of the lab.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The PNG; the page lies beside it. (default: inspect-BACKBONE.png)")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most N images.")] = 4,
    image_px: Annotated[int | None, typer.Option(min=1, help="Longer side (default: at most 32 patches).")] = None,
    fit_on: Annotated[str, typer.Option(help="The data set whose train images repairs are fitted on.")] = "scenes",
    fit_images: Annotated[int, typer.Option(min=1, help="How many of them.")] = 32,
    dtype: Annotated[str, typer.Option(help="Compute dtype: float32, bfloat16 or float16.")] = "float32",
    data_root: o.DataRoot = None, weights: o.Weights = None, plugin: o.Plugin = None, device: o.Device = "auto",
    offline: o.Offline = False,
) -> None:  # fmt: skip
    """Look at images through a backbone: PCA, norms, outliers, attention, similarity, LOST; one row per repair.

    Writes a PNG and a page in which any patch can be clicked, and prints the numbers of token_norms on these images.
    """
    from vitbench.engine.jobs import Workbench
    from vitbench.inspection.inspect import Settings
    from vitbench.inspection.inspect import inspect as look
    from vitbench.inspection.pictures import gather

    if dtype not in ("float32", "bfloat16", "float16"):
        raise UsageError(f"--dtype {dtype!r}", "float32, bfloat16 or float16")
    if out is not None and out.suffix.lower() != ".png":  # not after minutes of work
        raise UsageError(f"--out {out} is no PNG", "name a file that ends in .png")
    options = o.run_options(None, None, data_root, weights, plugin, device=device, offline=offline)
    backbone, repairs = chosen(model)
    pictures = gather(images, limit)
    settings = Settings(image_px or 0, fit_images, fit_on, dtype, say=lambda text: print(text, file=sys.stderr))
    found = look(Workbench(options), backbone, repairs, pictures, settings)
    png = out or Path(f"{default_name(backbone)}.png")
    _write(found, png)
    _print(found)
    print(f"wrote {png} and {png.with_suffix('.html')}")


def chosen(text: str) -> tuple[str, list[str]]:
    """The backbone and the repairs of `BACKBONE,REPAIR,...`, canonical; `none` always comes first."""
    from vitbench.catalogue.resolve import expand_backbones, expand_repairs
    from vitbench.selection import split_list

    parts = split_list(text)
    if not parts:
        raise UsageError("no backbone named", "write `vitbench inspect lab_ssl photo.jpg`")
    found = expand_backbones(parts[0])
    if len(found) != 1:
        raise UsageError(f"{parts[0]!r} is {len(found)} backbones", "inspect looks at one; repairs follow after commas")
    repairs = [repair for part in parts[1:] for repair in expand_repairs(part)]
    return found[0], list(dict.fromkeys(["none", *repairs]))


def default_name(backbone: str) -> str:
    """The file that is written where none is named, without its suffix."""
    from vitbench.paths import file_name

    return f"inspect-{file_name(backbone)}"


def _write(found: Inspection, png: Path) -> None:
    from vitbench.reports.inspect_figure import figure
    from vitbench.reports.inspect_page import page

    try:
        figure(found).savefig(png, dpi=PNG_DPI)
        png.with_suffix(".html").write_text(page(found), encoding="utf-8")
    except OSError as error:
        raise RecordError(f"cannot write {png}: {error.strerror or error}", "name another file with --out") from None


def _print(found: Inspection) -> None:
    from tabulate import tabulate

    from vitbench.reports.inspect_page import numbers_table

    headers, lines = numbers_table(found)
    short = [h.replace(", ", "\n").replace(" (", "\n(") for h in headers]
    print(tabulate(lines, short, disable_numparse=True, colalign=["left", *["right"] * (len(headers) - 1)]))
    for row in found.rows:
        if row.refused:
            print(f"not shown: {row.repair}: {row.refused}", file=sys.stderr)
