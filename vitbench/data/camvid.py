"""CamVid, 11 classes, in the layout of the SegNet tutorial: {train,val,test}/*.png and {train,val,test}annot/*.png; 11 is void."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Bytes, read_mask
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree

VOID = 11


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Every frame of the split, with the mask of its name."""
    rows = Rows()
    tree.files(f"{split}annot")
    for name in tree.files(split, (".png",)):
        rows.add(name.removesuffix(".png"), f"{split}/{name}", segmentation=f"{split}annot/{name}")
    return rows


def _read(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    labels = read_mask(path)
    return np.where(labels == VOID, np.uint8(255), labels)


LAYOUT = Layout(index, {"segmentation": _read})
