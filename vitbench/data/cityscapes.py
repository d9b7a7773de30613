"""Cityscapes (Cordts et al. 2016, arXiv 1604.01685): 19 classes.

    leftImg8bit/{train,val}/<city>/*_leftImg8bit.png
    gtFine/{train,val}/<city>/*_gtFine_labelTrainIds.png, or the released *_gtFine_labelIds.png, mapped here

The 34 label ids are never scored as they are: that gives 15 to 25 mIoU of nonsense.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Bytes, read_mask
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree

EVALUATED_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # by train id
IMAGE, TRAIN_IDS, LABEL_IDS = "_leftImg8bit.png", "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Every image of every city, with train ids where they were made and label ids otherwise."""
    rows = Rows()
    # Each archive has a folder of its own name where they were unpacked apart.
    images, masks = (tree.first(kind, f"{kind}_trainvaltest/{kind}") for kind in ("leftImg8bit", "gtFine"))
    for city in tree.folders(f"{images}/{split}"):
        folder = f"{masks}/{split}/{city}"
        for name in tree.files(f"{images}/{split}/{city}", (IMAGE,)):
            stem = name.removesuffix(IMAGE)
            made = stem + TRAIN_IDS in tree.files(folder)
            mask = f"{folder}/{stem}{TRAIN_IDS if made else LABEL_IDS}"
            rows.add(f"{city}/{stem}", f"{images}/{split}/{city}/{name}", segmentation=mask)
    return rows


def train_ids(label_ids: Bytes) -> Bytes:
    """The 34 label ids as 19 classes, everything else 255."""
    table = np.full(256, 255, np.uint8)
    table[list(EVALUATED_IDS)] = range(len(EVALUATED_IDS))
    return np.asarray(table[label_ids])


def _read(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    labels = read_mask(path)
    return train_ids(labels) if path.name.endswith(LABEL_IDS) else labels


LAYOUT = Layout(index, {"segmentation": _read})
