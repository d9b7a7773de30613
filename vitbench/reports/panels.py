"""What an inspection shows, panel by panel: the same for the figure, the page of `inspect` and the galleries of reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitbench.inspection.looks import Inspection, Look, Picture, Row, similarity
from vitbench.reports.colours import Bytes, flagged, heat, mosaic, palette, pca_rgb

TIMES_MEDIAN = 3.0  # norm over median that is drawn brightest
UNTOUCHED = "untouched"
TITLES = {
    "lost": "LOST",
    "pca": "PCA",
    "norm": "norm ÷ median",
    "outliers": "outliers",
    "cls": "CLS attention",
    "registers": "registers' attention",
    "segmentation": "segmentation",
    "depth": "depth",
    "similar x": "like LOST's seed",
    "similar +": "like the centre",
}
"""The kinds of panels in their order, and what stands above each."""


@dataclass(frozen=True)
class Panel:
    """A small picture: uint8 h w 3, in patches or (photo) pixels. box and marks are in shares of width and height."""

    kind: str
    pixels: Bytes
    caption: str = ""
    photo: bool = False
    box: tuple[float, float, float, float] | None = None  # x y width height
    mark: tuple[float, float] | None = None  # x y
    sign: str = ""

    @property
    def title(self) -> str:
        return TITLES[self.kind]


@dataclass(frozen=True)
class Strip:
    """One image through one repair."""

    image: str
    repair: str
    panels: tuple[Panel, ...]


def strips(inspection: Inspection) -> list[list[Strip]]:
    """Per image, one strip of panels per repair that has something to show."""
    rows = inspection.seen
    colours = pca_rgb([[x.patch for x in row.looks] for row in rows], [row.swapped for row in rows]) if rows else []
    return [
        [Strip(picture.name, row.repair, _panels(picture, row, i, colours[r][i])) for r, row in enumerate(rows)]
        for i, picture in enumerate(inspection.pictures)
    ]


def kinds(images: Sequence[Sequence[Strip]]) -> list[str]:
    """The kinds of panels that any strip has, in their order: columns, so that one kind stands below the other."""
    found = {panel.kind for image in images for strip in image for panel in strip.panels}
    return [kind for kind in TITLES if kind in found]


def _panels(picture: Picture, row: Row, i: int, rgb: Bytes) -> tuple[Panel, ...]:
    look = row.looks[i]
    found = [_photo(picture, row, look), Panel("pca", rgb), _norm(look), _outliers(picture, row, look)]
    if look.cls_attention is not None:
        mean = look.cls_attention.mean(0)
        told = f"max {mean.max():.1%}" if row.own_forward else UNTOUCHED
        found.append(Panel("cls", heat(mean, 0, float(mean.max()), "magma"), told))
    if look.register_attention is not None:
        top = float(look.register_attention.max())
        found.append(Panel("registers", mosaic(look.register_attention, top), f"max {top:.1%}"))
    if look.classes is not None:
        found.append(Panel("segmentation", palette()[look.classes % len(palette())]))
    if look.depth_m is not None:
        low, high = float(look.depth_m.min()), float(look.depth_m.max())
        found.append(Panel("depth", heat(look.depth_m, low, high, "cividis"), f"{low:.2g} to {high:.2g} m"))
    h, w = look.grid_hw
    found.append(_similar(look, look.seed, "x"))
    found.append(_similar(look, (h // 2, w // 2), "+"))
    return tuple(found)


def _photo(picture: Picture, row: Row, look: Look) -> Panel:
    h, w = look.grid_hw
    x0, y0, x1, y1 = look.box
    share = (x1 - x0) * (y1 - y0) / (h * w)
    # A box that the repair had no part in is no effect of it.
    own = not row.fields or any(name.startswith(("key", "query", "value")) for name in row.fields)
    caption = f"{_percent(share)} of image" if own else UNTOUCHED
    box = (x0 / w, y0 / h, (x1 - x0) / w, (y1 - y0) / h)
    return Panel("lost", picture.pixels, caption, True, box, _centre(look, look.seed), "x")


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.0095 else f"{share:.1%}"


def _norm(look: Look) -> Panel:
    ratio = look.size / max(float(np.median(look.size)), 1e-12)
    return Panel("norm", heat(ratio, 0, TIMES_MEDIAN), f"max {ratio.max():.3g}")


def _outliers(picture: Picture, row: Row, look: Look) -> Panel:
    mask = look.size > row.thresholds.mad[-1]
    return Panel("outliers", flagged(picture.pixels, mask), f"{int(mask.sum())} of {mask.size}")


def _similar(look: Look, cell: tuple[int, int], sign: str) -> Panel:
    values = similarity(look, cell)
    low = min(float(values.min()), 1 - 1e-6)  # what is all alike is bright, not dark
    caption = f"{round(low, 2) + 0:.2f} to 1".replace("-", "−")
    return Panel(f"similar {sign}", heat(values, low, 1), caption, mark=_centre(look, cell), sign=sign)


def _centre(look: Look, cell: tuple[int, int]) -> tuple[float, float]:
    h, w = look.grid_hw
    return (cell[1] + 0.5) / w, (cell[0] + 0.5) / h


@dataclass(frozen=True)
class BlockNorms:
    """Norms after every block, over all tokens of all images: median, 5th and 95th percentile and largest."""

    repair: str
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    largest: tuple[float, ...]


def block_norms(rows: Sequence[Row]) -> list[BlockNorms]:
    """One per forward: repairs that map tokens leave the blocks as they are."""
    out = []
    for row in rows:
        if not row.own_forward:
            continue
        norms = np.concatenate(row.block_norms(), axis=1)
        low, median, high = np.percentile(norms, (5, 50, 95), axis=1)
        parts = (median, low, high, norms.max(1))
        out.append(BlockNorms(row.repair, *(tuple(float(v) for v in part) for part in parts)))
    return out
