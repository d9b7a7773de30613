"""NAVI (Jampani et al. 2023, arXiv 2306.09109): objects photographed from all sides, with depth and camera poses.

    <object>/{multiview*,wild_set}/{images,depth}/[downsampled_]<id>.jpg|png  <object>/<set>/annotations.json

Depth files hold 655,350 / millimetres in 16 bits, 0 where there is no object. Images are turned as EXIF says, as the authors'
own reader does: depth maps and cameras are for the upright image. `pose` is the camera: quaternion, translation (here in
metres), and focal length in pixels of an image of `pose_hw`. Splits are those of the annotations; `wild` is every wild_set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Bytes, Floats, read_image, read_values
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree

MM = 1000.0
SCALE_M = np.float32(65535 * 10 / MM)


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Images by object and set; the down-sampled copies where they are."""
    rows = Rows()
    for thing in tree.folders(""):
        for scene in tree.folders(thing):
            place = f"{thing}/{scene}"
            if not tree.has(f"{place}/annotations.json") or (split == "wild") != (scene == "wild_set"):
                continue
            if scene.startswith("video"):  # version 1.5 has frames of videos too
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
        "focal_px": float(camera["focal_length"]),
    }
    rows.add(
        f"{place}/{stem}", f"{place}/images/{prefix}{name}", depth=f"{place}/depth/{prefix}{stem}.png", pose=pose,
        pose_hw=[int(v) for v in item["image_size"]],
    )  # fmt: skip


def _read(path: Path, fragment: str, card: DatasetCard) -> Floats:
    values = read_values(path).astype(np.float32)
    return np.divide(SCALE_M, values, out=np.zeros_like(values), where=values > 0)


def _upright(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    return read_image(path)


def crop_to_object(sample: dict[str, Any], card: DatasetCard) -> dict[str, Any]:
    """Image and depth cut to the square around the object, for tasks that read depth and pose together.

    `pose` then says where the cut is: crop = x0, y0 and the width and height of the image before it, in pixels.
    """
    if "pose" not in sample or "depth" not in sample or not (sample["depth"] > 0).any():
        return sample
    h, w = sample["image"].shape[:2]
    dh, dw = sample["depth"].shape
    rows, cols = (np.flatnonzero((sample["depth"] > 0).any(a)) for a in (1, 0))
    y0, y1, x0, x1 = rows[0] * h / dh, (rows[-1] + 1) * h / dh, cols[0] * w / dw, (cols[-1] + 1) * w / dw
    half = max(y1 - y0, x1 - x0) / 2
    top, bottom = max(round((y0 + y1) / 2 - half), 0), min(round((y0 + y1) / 2 + half), h)
    left, right = max(round((x0 + x1) / 2 - half), 0), min(round((x0 + x1) / 2 + half), w)
    depth = sample["depth"][_scaled(top, dh, h) : _scaled(bottom, dh, h), _scaled(left, dw, w) : _scaled(right, dw, w)]
    pose = {**sample["pose"], "crop": [float(left), float(top), float(w), float(h)]}
    return {**sample, "image": sample["image"][top:bottom, left:right], "depth": depth, "pose": pose}


def _scaled(position: int, to: int, of: int) -> int:
    return round(position * to / of)


LAYOUT = Layout(index, {"depth": _read}, image=_upright, finish=crop_to_object)
