"""Pascal Context (Mottaghi et al. 2014) as mmsegmentation converts it from trainval_merged.json.

    JPEGImages/*.jpg  SegmentationClassContext/*.png  ImageSets/SegmentationContext/{train,val}.txt

With 60 classes, 0 is background; with 59 it is ignored (255) and classes start from 0.
"""

from __future__ import annotations

from pathlib import Path

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.ade20k import reduce_zero
from vitbench.data.images import Bytes, read_mask
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """The images of the list, each with its mask."""
    rows = Rows()
    for name in tree.lines(f"ImageSets/SegmentationContext/{split}.txt"):
        rows.add(name, f"JPEGImages/{name}.jpg", segmentation=f"SegmentationClassContext/{name}.png")
    return rows


def _read(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    labels = read_mask(path)
    return reduce_zero(labels) if card.options.get("background") == "ignored" else labels


LAYOUT = Layout(index, {"segmentation": _read})
