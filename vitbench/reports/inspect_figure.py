"""The figure of `vitbench inspect`: one strip of panels per image and repair, and norms after every block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from vitbench.inspection.looks import Inspection
from vitbench.reports.panels import BlockNorms, Panel, Strip, block_norms, kinds, strips

SIDE = 1.5  # inches of a panel
LABEL, GAP, HEAD, NORMS = 0.36, 0.1, 0.62, 2.3
# Okabe and Ito 2008: told apart by colour-blind readers.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
BOX = "#ffd500"


def figure(inspection: Inspection) -> Figure:
    """Every image of the inspection; its height grows with images x repairs, its width with the kinds of panels."""
    images = strips(inspection)
    columns = kinds(images)
    heights = [_height(image) for image in images]
    body = sum((h + LABEL + GAP) * len(image) + GAP for h, image in zip(heights, images, strict=True))
    norms = block_norms(inspection.seen)
    refused = [row for row in inspection.rows if row.refused]
    foot = (NORMS if norms else 0.2) + 0.2 * len(refused)
    width, height = max(len(columns) * (SIDE + GAP) + GAP, 6.5), HEAD + body + foot
    made = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(made)
    canvas = _Canvas(made, width, height)
    canvas.text(GAP, 0.16, inspection.backbone, size=13, weight="bold")
    canvas.text(GAP, 0.42, _subtitle(inspection), size=7.5, color="#444444")
    y = HEAD
    for image, panel_height in zip(images, heights, strict=True):
        for strip in image:
            canvas.strip(strip, columns, y, panel_height, len(images) > 1)
            y += panel_height + LABEL + GAP
        y += GAP
    if norms:
        _draw_norms(canvas.axes(0.55, y + 0.22, min(width * 0.55, 6.0), NORMS - 0.75), norms)
    for i, row in enumerate(refused):
        canvas.text(GAP, height - 0.2 * (len(refused) - i), f"{row.repair}: {row.refused}", size=7, color="#a03000")
    return made


def _height(image: Sequence[Strip]) -> float:
    h, w = image[0].panels[0].pixels.shape[:2] if image else (1, 1)
    return float(min(max(SIDE * h / w, 0.5), 2.2))


def _subtitle(inspection: Inspection) -> str:
    names = ", ".join(p.name for p in inspection.pictures[:4]) + (", ..." if len(inspection.pictures) > 4 else "")
    parts = [
        names,
        *(f"{value} {name}" if name == "blocks" else f"{name} {value}" for name, value in inspection.facts.items()),
    ]
    return " · ".join([*parts, *([f"repairs fitted on {inspection.fitted_on}"] if inspection.fitted_on else [])])


class _Canvas:
    """A figure measured in inches from its top left."""

    def __init__(self, made: Figure, width: float, height: float) -> None:
        self.figure, self.width, self.height = made, width, height

    def axes(self, x: float, y: float, w: float, h: float) -> Any:
        return self.figure.add_axes((x / self.width, 1 - (y + h) / self.height, w / self.width, h / self.height))

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, va="center", parse_math=False, **style)

    def strip(self, strip: Strip, columns: Sequence[str], y: float, height: float, named: bool) -> None:
        self.text(GAP, y + 0.08, strip.repair, size=8, weight="bold")
        if named:
            self.text(GAP + SIDE + GAP, y + 0.08, strip.image, size=7, color="#666666")
        for panel in strip.panels:
            x = GAP + columns.index(panel.kind) * (SIDE + GAP)
            _draw(self.axes(x, y + LABEL, SIDE, height), panel)
            self.text(x, y + LABEL - 0.07, panel.title, size=6.5)
            self.text(x + SIDE, y + LABEL - 0.07, panel.caption, size=5.5, color="#555555", ha="right")


def _draw(axes: Any, panel: Panel) -> None:
    h, w = panel.pixels.shape[:2]
    axes.imshow(panel.pixels, interpolation="bilinear" if panel.photo else "nearest")
    axes.set_anchor("NW")  # where an image is higher than panels may be, it is narrower
    axes.set_axis_off()
    if panel.box:
        x, y, bw, bh = panel.box
        for colour, line in (("black", 3.0), (BOX, 1.6)):
            axes.add_patch(Rectangle((x * w - 0.5, y * h - 0.5), bw * w, bh * h, fill=False, edgecolor=colour, lw=line))
    if panel.mark:
        x, y = panel.mark[0] * w - 0.5, panel.mark[1] * h - 0.5
        for colour, line in (("black", 3.0), ("white", 1.4)):
            axes.plot([x], [y], panel.sign, color=colour, markersize=7 if line > 2 else 6, markeredgewidth=line)
    axes.set_xlim(-0.5, w - 0.5)
    axes.set_ylim(h - 0.5, -0.5)


def _draw_norms(axes: Any, norms: Sequence[BlockNorms]) -> None:
    for line, colour in zip(norms, LINES * len(norms), strict=False):
        x = range(len(line.median))  # counted as in `block_3`
        axes.fill_between(x, line.low, line.high, color=colour, alpha=0.15, lw=0)
        axes.plot(x, line.median, color=colour, lw=1.4, marker="o", markersize=2.5, label=line.repair)
        axes.plot(x, line.largest, color=colour, lw=1, ls=":", marker="v", markersize=2.5)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_title("token norms after each block: median, 5 to 95 %, and largest (dotted)", fontsize=7.5, loc="left")
    axes.set_xticks(range(max(len(line.median) for line in norms)))
    axes.tick_params(labelsize=7)
    axes.set_xlabel("block", fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
