"""COCO 2014 and 2017 (Lin et al. 2014, arXiv 1405.0312): boxes of COCO20k, coarse stuff and coarse things.

    images/{train2014,train2017,val2017}/*.jpg  annotations/instances_*.json
    annotations/stuff_annotations/stuff_{train,val}2017_pixelmaps/*.png (ids 92 to 182, here their 15 groups)
    annotations/panoptic_{train,val}2017.json and .../panoptic_{train,val}2017/*.png (things, here their 12 groups);
    without them the masks of instances_*.json are painted, smaller ones over larger ones

All that is neither stuff nor a thing, respectively, is 255. Which images are COCO20k (Vo et al. 2020, as released with LOST)
is a list that ships with the package.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.release import class_names
from vitbench.data.coco_masks import decode_mask
from vitbench.data.coco_stuff_groups import GROUPS
from vitbench.data.images import Bytes, read_image, read_mask
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree

IGNORED = 255
Json = dict[str, Any]


# -- COCO20k -----------------------------------------------------------------------------------------------------------


def index_boxes(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """The listed images with the boxes of all that is no crowd, rounded to whole pixels as LOST does."""
    wanted = listed_ids(card.options["list"])
    content = tree.json(card.options["annotations"])
    images = {image["id"]: image["file_name"] for image in content["images"] if image["id"] in wanted}
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    for item in content["annotations"]:
        if item["image_id"] in images and not item.get("iscrowd"):
            x, y, w, h = (float(v) for v in item["bbox"])
            boxes[item["image_id"]].append([float(round(v)) for v in (x, y, x + w, y + h)])
    rows = Rows()
    for key, name in sorted(images.items(), key=lambda pair: pair[1]):
        rows.add(name.rpartition(".")[0], f"{card.options['images']}/{name}", boxes=boxes[key])
    return rows


def listed_ids(name: str) -> frozenset[int]:
    """Image ids of a list that ships with the package: one a line."""
    text = (Path(__file__).parent / "lists" / f"{name}.txt").read_text(encoding="ascii")
    return frozenset(map(int, text.split()))


# -- stuff -------------------------------------------------------------------------------------------------------------


def index_stuff(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Every image that has a map of stuff."""
    name = f"stuff_{split}2017_pixelmaps"
    folder = tree.first(f"annotations/stuff_annotations/{name}", f"annotations/annotations/stuff_annotations/{name}",
                        f"annotations/{name}")  # fmt: skip
    rows = Rows()
    for file in tree.files(folder, (".png",)):
        stem = file.removesuffix(".png")
        rows.add(stem, f"images/{split}2017/{stem}.jpg", segmentation=f"{folder}/{file}")
    return rows


def stuff_groups(ids: Bytes) -> Bytes:
    """COCO ids as the 15 coarse groups of stuff, everything else 255."""
    table, names = np.full(256, IGNORED, np.uint8), class_names("coco_stuff")
    for name, members in GROUPS.items():
        table[list(members)] = names.index(name)
    return np.asarray(table[ids])


def _read_stuff(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    return stuff_groups(read_mask(path))


# -- things ------------------------------------------------------------------------------------------------------------


def index_things(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Every image that has panoptic segments, or instances where the panoptic release is not there."""
    panoptic = f"annotations/panoptic_{split}2017.json"
    if tree.has(panoptic):
        return _panoptic(tree.json(panoptic), f"annotations/panoptic_{split}2017", split)
    return _instances(tree.json(f"annotations/instances_{split}2017.json"), split)


def _groups(categories: list[Json]) -> dict[int, int]:
    names = class_names("coco_things")
    return {c["id"]: names.index(c["supercategory"]) for c in categories if c.get("isthing", 1)}


def _panoptic(content: Json, folder: str, split: str) -> Rows:
    groups, rows = _groups(content["categories"]), Rows()
    for item in sorted(content["annotations"], key=lambda a: a["file_name"]):
        stem = item["file_name"].rpartition(".")[0]
        segments = [[s["id"], groups[s["category_id"]]] for s in item["segments_info"] if s["category_id"] in groups]
        # The groups of the segments go with the file: a map's colours mean nothing without them.
        mask = f"{folder}/{item['file_name']}#{json.dumps(segments)}"
        rows.add(stem, f"images/{split}2017/{stem}.jpg", segmentation=mask)
    return rows


def _instances(content: Json, split: str) -> Rows:
    groups, rows = _groups(content["categories"]), Rows()
    masks: dict[int, list[Json]] = defaultdict(list)
    for item in content["annotations"]:
        masks[item["image_id"]].append(item)
    for image in sorted(content["images"], key=lambda i: i["file_name"]):
        found = sorted(masks[image["id"]], key=lambda a: -float(a["area"]))
        drawn = [[a["segmentation"], groups[a["category_id"]]] for a in found]
        path = f"images/{split}2017/{image['file_name']}"
        mask = f"{path}#{json.dumps([image['height'], image['width'], drawn])}"
        rows.add(image["file_name"].rpartition(".")[0], path, segmentation=mask)
    return rows


def _read_things(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    if path.suffix == ".png":
        return paint_segments(read_image(path, upright=False), json.loads(fragment))
    height, width, drawn = json.loads(fragment)
    labels = np.full((height, width), IGNORED, np.uint8)
    for segmentation, group in drawn:
        labels[decode_mask(segmentation, (height, width))] = group
    return labels


def paint_segments(colours: Bytes, segments: list[list[int]]) -> Bytes:
    """A panoptic PNG (h w 3, id = R + 256 G + 65536 B) as groups, given [id, group] of its things."""
    ids = colours.astype(np.int64) @ (1, 256, 65536)
    labels = np.full(ids.shape, IGNORED, np.uint8)
    for segment, group in segments:
        labels[ids == segment] = group
    return labels


BOXES = Layout(index_boxes)
STUFF = Layout(index_stuff, {"segmentation": _read_stuff})
THINGS = Layout(index_things, {"segmentation": _read_things})
