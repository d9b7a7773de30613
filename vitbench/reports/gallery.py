"""Panels as the pages carry them: pictures as data URIs, places in per cent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitbench.inspection.looks import Inspection
from vitbench.reports.colours import Bytes, data_uri
from vitbench.reports.panels import Panel, Strip, block_norms, strips
from vitbench.reports.plots import Curve, Plot, plot

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
    """One image through one repair, as the pages draw it."""

    repair: str
    panels: tuple[Shown, ...]


@dataclass(frozen=True)
class Gallery:
    """One backbone: per image its name and strips, the norms after each block, and what could not be shown."""

    backbone: str
    images: tuple[tuple[str, tuple[ShownStrip, ...]], ...]
    norms: Plot | None
    refused: tuple[tuple[str, str], ...]
    fitted_on: str


def gallery(inspection: Inspection, without: Sequence[str] = ()) -> Gallery:
    """An inspection for a page; panels of the kinds in `without` are left out."""
    images = []
    for picture, found in zip(inspection.pictures, strips(inspection), strict=True):
        aspect = f"{picture.pixels.shape[1]} / {picture.pixels.shape[0]}"
        photo = data_uri(_small(picture.pixels), "jpeg")
        images.append((picture.name, tuple(_strip(strip, photo, aspect, without) for strip in found)))
    refused = tuple((row.repair, row.refused) for row in inspection.rows if row.refused)
    return Gallery(inspection.backbone, tuple(images), norms_plot(inspection), refused, inspection.fitted_on)


def norms_plot(inspection: Inspection) -> Plot | None:
    """Median, 5 to 95 % and largest norm after each block, one curve per forward."""
    curves = [
        Curve(n.repair, range(1, len(n.median) + 1), n.median, n.low, n.high, n.largest)
        for n in block_norms(inspection.seen)
        if len(n.median) > 1
    ]
    note = "median, 5 to 95 %, and largest (dotted) over all tokens shown"
    return plot("Token norms after each block", curves, note, "block", log=True, legend=True) if curves else None


def _strip(strip: Strip, photo: str, aspect: str, without: Sequence[str]) -> ShownStrip:
    return ShownStrip(strip.repair, tuple(_shown(p, photo, aspect) for p in strip.panels if p.kind not in without))


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
