"""Depth sets that are lists of pairs: NYUv2 and KITTI as in the Monocular-Depth-Estimation-Toolbox, SUN RGB-D.

    /<image> /<depth> <focal>

A leading slash does not make a path absolute; lines whose depth is `None` are left out; the focal length is not used. The
list of SUN RGB-D has none, and its paths begin with the folder that the archive becomes, in which the list lies itself.
NYUv2: 16-bit millimetres (Silberman et al. 2012, split of BTS, arXiv 1907.10326). KITTI: 16-bit metres x 256 (Geiger et al.
2013, split of Eigen et al. 2014), images and depth cut to 352 x 1216 at the bottom centre. SUN RGB-D (Song et al. 2015):
16-bit values turned by three bits, then millimetres.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Floats, read_values
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree, joined
from vitbench.errors import DataError, UnavailableError

KB_HW = (352, 1216)


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """The pairs of the split's list, in order of their names.

    options: lists; images, depths: folders before the paths; top: a first folder of the paths, which may be this one.
    """
    file, top = card.options["lists"][split], card.options.get("top", "")
    above = f"{top}/" if top and not tree.has(top) else ""
    pairs = []
    for number, line in enumerate(tree.lines(file), start=1):
        parts = line.split()
        if len(parts) < 2:
            raise UnavailableError(
                f"{tree.root / file}, line {number}: {line!r} is no pair", "write `image depth focal`"
            )
        image, depth = (part.lstrip("/").removeprefix(above) for part in parts[:2])
        if depth != "None":
            pairs.append((joined(card.options.get("images", ""), image), joined(card.options.get("depths", ""), depth)))
    rows = Rows()
    for image, depth in sorted(pairs):
        rows.add(image.rpartition(".")[0], image, depth=depth)
    return rows


def _read(path: Path, fragment: str, card: DatasetCard) -> Floats:
    values = read_values(path)
    if card.options.get("turned_bits"):
        turned = card.options["turned_bits"]
        values = (values >> turned) | (values << (16 - turned)) & 0xFFFF
    return np.asarray(values / np.float32(card.options["per_metre"]), np.float32)


def bottom_centre(sample: dict[str, Any], card: DatasetCard) -> dict[str, Any]:
    """Image and depth cut to the part that has measurements (the KB crop)."""
    if not card.options.get("kb_crop"):
        return sample
    h, w = sample["image"].shape[:2]
    if h < KB_HW[0] or w < KB_HW[1]:
        raise DataError(
            f"image {sample['key']} is {w} x {h}, smaller than the crop of {KB_HW[1]} x {KB_HW[0]}",
            "use the raw images",
        )
    top, left = h - KB_HW[0], (w - KB_HW[1]) // 2
    cut = slice(top, None), slice(left, left + KB_HW[1])
    return {name: value[cut] if name in ("image", "depth") else value for name, value in sample.items()}


LAYOUT = Layout(index, {"depth": _read}, finish=bottom_centre)
