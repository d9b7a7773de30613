"""NAVI (Jampani et al. 2023, arXiv 2306.09109): objects photographed from all sides, with depth and camera poses.

    <object>/{multiview_*,wild_set}/{images,depth}/[downsampled_]<id>.jpg|png  <object>/<set>/annotations.json

Depth is 16-bit millimetres. `pose` is the camera as released: quaternion, translation (here in metres), focal length, and
the size of the image they are for. Splits are those of the annotations; `wild` is every wild_set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Floats, read_depth
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree

MM = 1000.0


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Images by object and set; the down-sampled copies where they are."""
    rows = Rows()
    for thing in tree.folders(""):
        for scene in tree.folders(thing):
            place = f"{thing}/{scene}"
            if not tree.has(f"{place}/annotations.json") or (split == "wild") != (scene == "wild_set"):
                continue
            for item in tree.json(f"{place}/annotations.json"):
                if split in ("wild", item.get("split")):
                    _add(rows, tree, place, item)
    return rows


def _add(rows: Rows, tree: Tree, place: str, item: dict[str, Any]) -> None:
    name = item["filename"]
    stem = name.rpartition(".")[0]
    small = tree.size(f"{place}/images/downsampled_{name}") is not None
    prefix = "downsampled_" if small else ""
    camera = item["camera"]
    pose = {
        "quaternion": [float(v) for v in camera["q"]],
        "translation_m": [float(v) / MM for v in camera["t"]],
        "focal_length": float(camera["focal_length"]),
        "image_size": [int(v) for v in item["image_size"]],
    }
    rows.add(f"{place}/{stem}", f"{place}/images/{prefix}{name}", depth=f"{place}/depth/{prefix}{stem}.png", pose=pose)


def _read(path: Path, fragment: str, card: DatasetCard) -> Floats:
    return read_depth(path)


LAYOUT = Layout(index, {"depth": _read})
