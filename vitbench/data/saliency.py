"""Saliency sets, an image and one object mask each: ECSSD, DUTS-TE, DUT-OMRON.

images/*.jpg and masks/*.png (or the folders that the release names), of equal stems; masks are 1 from half of white on, in
grey or in colour, or 0 and 1
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Bytes, opened
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import IMAGES, Tree

HALF = 128


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Every image with the mask of its stem. options: images, masks (folder names tried in turn)."""
    images = tree.first(*card.options.get("images", ()), "images")
    masks = tree.first(*card.options.get("masks", ()), "masks")
    by_stem = {name.rpartition(".")[0]: name for name in tree.files(masks, IMAGES)}
    rows = Rows()
    for name in tree.files(images, IMAGES):
        stem = name.rpartition(".")[0]
        rows.add(stem, f"{images}/{name}", segmentation=f"{masks}/{by_stem.get(stem, stem + '.png')}")
    return rows


def _read(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    with opened(path) as image:
        values = np.array(image)
        if values.ndim > 2 or values.max(initial=0) > 1:  # not 0 and 1, whatever colours they stand for
            values = np.array(image.convert("L")) >= HALF
    return values.astype(np.uint8)


LAYOUT = Layout(index, {"segmentation": _read})
