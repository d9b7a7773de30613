"""ADE20K scene parsing, 150 classes (Zhou et al. 2017, arXiv 1608.05442).

    {images,annotations}/{training,validation}/*.jpg|png

Label 0 of the files is "other": it becomes 255 (ignored), and classes 1 to 150 become 0 to 149.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Bytes, read_mask
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree

FOLDERS = {"train": "training", "val": "validation"}


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Every image of the split's folder, with the mask of its name."""
    folder, rows = FOLDERS[split], Rows()
    tree.files(f"annotations/{folder}")
    for name in tree.files(f"images/{folder}", (".jpg",)):
        stem = name.rpartition(".")[0]
        rows.add(stem, f"images/{folder}/{name}", segmentation=f"annotations/{folder}/{stem}.png")
    return rows


def reduce_zero(labels: Bytes) -> Bytes:
    """0 becomes 255, every class one less; 255 stays."""
    return np.where((labels == 0) | (labels == 255), np.uint8(255), labels - np.uint8(1))


def read_reduced(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    """uint8 h w, classes from 0, 255 ignored."""
    return reduce_zero(read_mask(path))


LAYOUT = Layout(index, {"segmentation": read_reduced})
