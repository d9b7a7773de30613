"""DAVIS 2016 and 2017 (Perazzi et al. 2016; Pont-Tuset et al. 2017, arXiv 1704.00675): one sample per frame.

    {JPEGImages,Annotations}/480p/<video>/00000.jpg|png  ImageSets/2017/{train,val}.txt (names of videos)
    ImageSets/480p/{train,val}.txt (2016: `/JPEGImages/480p/<video>/00000.jpg /Annotations/...` per frame)

`segmentation` holds object numbers (0 background); 2016 has one object, written as 255. `frames` says where in which video.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Bytes, read_mask
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree

SIZE = "480p"


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """All frames of the split's videos, in order."""
    rows = Rows()
    for video in _videos(tree, card.options["year"], split):
        names = list(tree.files(f"JPEGImages/{SIZE}/{video}", (".jpg",)))
        for i, name in enumerate(names):
            stem = name.removesuffix(".jpg")
            rows.add(
                f"{video}/{stem}", f"JPEGImages/{SIZE}/{video}/{name}",
                segmentation=f"Annotations/{SIZE}/{video}/{stem}.png",
                frames={"video": video, "index": i, "count": len(names)},
            )  # fmt: skip
    return rows


def _videos(tree: Tree, year: int, split: str) -> list[str]:
    named = f"ImageSets/{year}/{split}.txt"
    if year == 2017 or tree.has(named):
        return tree.lines(named)
    frames = [line.split()[0].lstrip("/") for line in tree.lines(f"ImageSets/{SIZE}/{split}.txt")]
    return list(dict.fromkeys(frame.split("/")[-2] for frame in frames))


def _read(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    values = read_mask(path)
    # One object is drawn white; many are numbered.
    single = card.options["year"] == 2016 or set(np.unique(values)) == {0, 255}
    return (values > 0).astype(np.uint8) if single else values


LAYOUT = Layout(index, {"segmentation": _read})
