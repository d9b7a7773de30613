"""Panels as the pages carry them: pictures as data URIs, places in per cent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitbench.inspection.looks import Inspection
from vitbench.reports.colours import MUTED, Bytes, data_uri
from vitbench.reports.panels import TITLES, Panel, Strip, block_norms, kinds, strips
from vitbench.reports.plots import COLOURS, DASHES, Curve, Plot, plot

BINS = 40
PHOTO_PX = 224  # longer side of the photo in a page


@dataclass(frozen=True)
class Shown:
    """A panel for the template `panel`; box and mark in per cent."""

    kind: str
    title: str
    caption: str
    src: str
    aspect: str
    photo: bool
    box: tuple[float, ...] = ()
    mark: tuple[float, ...] = ()
    sign: str = ""


@dataclass(frozen=True)
class ShownStrip:
    """One image through one repair, as the pages draw it; panels by kind."""

    repair: str
    panels: Mapping[str, Shown]


@dataclass(frozen=True)
class Gallery:
    """One backbone: per image its name and strips, the norms after each block, and what could not be shown."""

    backbone: str
    kinds: tuple[tuple[str, str], ...]  # of panels, and what stands above each
    images: tuple[tuple[str, tuple[ShownStrip, ...]], ...]
    norms: Plot | None
    histogram: Plot | None
    refused: tuple[tuple[str, str], ...]
    fitted_on: str
    classes: tuple[tuple[str, str], ...]  # name and colour


def gallery(inspection: Inspection, without: Sequence[str] = ()) -> Gallery:
    """An inspection for a page; panels of the kinds in `without` are left out."""
    images, drawn = [], strips(inspection)
    columns = tuple(kind for kind in kinds(drawn) if kind not in without)
    for picture, found in zip(inspection.pictures, drawn, strict=True):
        aspect = f"{picture.pixels.shape[1]} / {picture.pixels.shape[0]}"
        photo = data_uri(_small(picture.pixels), "jpeg")
        images.append((picture.name, tuple(_strip(strip, photo, aspect, columns) for strip in found)))
    refused = tuple((row.repair, row.refused) for row in inspection.rows if row.refused)
    classes = tuple((name, f"#{MUTED[k % len(MUTED)]}") for k, name in enumerate(inspection.classes))
    return Gallery(
        backbone=inspection.backbone,
        kinds=tuple((kind, TITLES[kind]) for kind in columns),
        images=tuple(images),
        norms=norms_plot(inspection),
        histogram=histogram(inspection),
        refused=refused,
        fitted_on=inspection.fitted_on,
        classes=classes,
    )


def norms_plot(inspection: Inspection) -> Plot | None:
    """Median, 5 to 95 % and largest norm after each block, one curve per forward."""
    curves = [
        Curve(n.repair, range(len(n.median)), n.median, n.low, n.high, n.largest)
        for n in block_norms(inspection.seen)
        if len(n.median) > 1
    ]
    note = "median, 5 to 95 %, and largest (dotted) over all tokens shown"
    return plot("Token norms after each block", curves, note, "block", log=True, legend=True) if curves else None


def histogram(inspection: Inspection) -> Plot | None:
    """Norms of the last block's tokens as each repair leaves them, in shares of all tokens, on a logarithmic axis."""
    sizes = {row.repair: np.concatenate([look.size.ravel() for look in row.looks]) for row in inspection.seen}
    if not sizes:
        return None
    every = np.log10(np.maximum(np.concatenate(list(sizes.values())), 1e-6))
    edges = np.linspace(every.min() - 0.02, every.max() + 0.02, BINS + 1)
    middle = [float(10**v) for v in (edges[:-1] + edges[1:]) / 2]
    curves = []
    for repair, size in sizes.items():
        counts, _ = np.histogram(np.log10(np.maximum(size, 1e-6)), edges)
        curves.append(Curve(repair, middle, [float(v) for v in 100 * counts / len(size)]))
    note = "% of the last block's tokens, as each repair leaves them"
    return plot("Token norms", curves[: COLOURS * DASHES], note, "norm", log_x=True, legend=True, dots=False)


def _strip(strip: Strip, photo: str, aspect: str, columns: Sequence[str]) -> ShownStrip:
    return ShownStrip(strip.repair, {p.kind: _shown(p, photo, aspect) for p in strip.panels if p.kind in columns})


def _shown(panel: Panel, photo: str, aspect: str) -> Shown:
    return Shown(
        kind=panel.kind,
        title=panel.title,
        caption=panel.caption,
        src=photo if panel.photo else data_uri(panel.pixels),
        aspect=aspect,
        photo=panel.photo,
        box=tuple(round(100 * v, 2) for v in panel.box or ()),
        mark=tuple(round(100 * v, 2) for v in panel.mark or ()),
        sign=panel.sign,
    )


def _small(pixels: Bytes) -> Bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((PHOTO_PX, PHOTO_PX))
    return np.asarray(image)
