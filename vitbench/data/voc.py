"""PASCAL VOC 2007 and 2012 (Everingham et al. 2010): boxes, segmentation, and the classes present.

    JPEGImages/*.jpg  Annotations/*.xml  ImageSets/{Main,Segmentation}/*.txt  SegmentationClass/*.png
    trainaug, train.txt and SBD (Hariharan et al. 2011) together, SBD from the first of these that is there:
    SegmentationClassAug/*.png with ImageSets/Segmentation/{aug or trainaug}.txt,
    benchmark_RELEASE/dataset/{cls/*.mat,train.txt,val.txt} as it was released; VOC's own masks come first

Boxes count pixels from 1: as in LOST, 1 is taken from xmin and ymin, so that x1 y1 are exclusive. Difficult and truncated
boxes are there, and marked in `boxes_hard`. Masks are read as indices; where a copy holds the palette's colours, these
are mapped back. Void borders are 255.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import IO

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.release import class_names, palette
from vitbench.data.images import Bytes, mask_of, opened
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree
from vitbench.errors import DataError, UnavailableError

LISTS, SBD = "ImageSets/Segmentation", "benchmark_RELEASE/dataset"


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Segmentation splits with masks, all others with the boxes of every image."""
    rows = Rows()
    if split in ("train", "val", "trainaug") and "segmentation" in card.targets:
        for name, mask in _augmented(tree) if split == "trainaug" else _masks(tree, f"{LISTS}/{split}.txt"):
            rows.add(name, f"JPEGImages/{name}.jpg", segmentation=mask)
        return rows
    for line in tree.lines(f"ImageSets/Main/{split}.txt"):
        name = line.split()[0]
        boxes, hard, classes = _boxes(tree, f"Annotations/{name}.xml")
        rows.add(name, f"JPEGImages/{name}.jpg", boxes=boxes, boxes_hard=hard, boxes_class=classes)
    return rows


def _masks(tree: Tree, names: str, folder: str = "SegmentationClass") -> list[tuple[str, str]]:
    return [(name, f"{folder}/{name}.png") for name in tree.lines(names)]


def _augmented(tree: Tree) -> list[tuple[str, str]]:
    """Name and mask of VOC's train images and of those that SBD adds, in order; none of VOC's val is among them."""
    own = set(tree.lines(f"{LISTS}/train.txt"))
    for names in ("aug", "trainaug"):
        if tree.has(f"{LISTS}/{names}.txt"):
            added, folder, suffix = _names(tree, f"{LISTS}/{names}.txt"), "SegmentationClassAug", "png"
            break
    else:
        theirs = {name for part in ("train", "val") for name in tree.lines(f"{SBD}/{part}.txt")}
        added, folder, suffix = theirs - set(tree.lines(f"{LISTS}/val.txt")), f"{SBD}/cls", "mat"
    # Converters make masks of SBD's images only, and VOC's own have borders.
    masks = {name: f"{folder}/{name}.{suffix}" for name in added} | {n: f"SegmentationClass/{n}.png" for n in own}
    return sorted(masks.items())


def _names(tree: Tree, path: str) -> set[str]:
    """Names of a list that may hold paths of images, and of masks behind them."""
    return {line.split()[0].rpartition("/")[2].removesuffix(".jpg") for line in tree.lines(path)}


def index_presence(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Classes present in each image; those seen only in difficult objects are in `labels_unsure`."""
    names = class_names("voc")[1:]
    marks: dict[str, tuple[list[int], list[int]]] = {}
    for i, name in enumerate(names):
        for line in tree.lines(f"ImageSets/Main/{name}_{split}.txt"):
            key, mark = line.split()
            sure, unsure = marks.setdefault(key, ([], []))
            (sure if mark == "1" else unsure if mark == "0" else []).append(i)
    rows = Rows(names)
    for key in sorted(marks):
        rows.add(key, f"JPEGImages/{key}.jpg", labels=marks[key][0], labels_unsure=marks[key][1])
    return rows


def _boxes(tree: Tree, path: str) -> tuple[list[list[float]], list[bool], list[int]]:
    try:
        objects = ET.fromstring(tree.text(path)).findall("object")
        boxes, hard, classes = [], [], []
        for item in objects:
            box = item.find("bndbox")
            assert box is not None
            x0, y0, x1, y1 = (float(box.findtext(n, "")) for n in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append([x0 - 1, y0 - 1, x1, y1])
            hard.append(item.findtext("difficult") == "1" or item.findtext("truncated") == "1")
            classes.append(class_names("voc").index(item.findtext("name", "")) - 1)
    except (ET.ParseError, ValueError, AssertionError) as error:
        raise UnavailableError(f"{tree.root / path} is not a VOC annotation: {error}", "unpack it again") from error
    return boxes, hard, classes


def read_indices(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    """uint8 h w: indices of a palette image or of SBD, or those whose VOC colours an RGB copy holds."""
    return _read_sbd(path) if path.suffix == ".mat" else indices(path)


def indices(path: Path, content: IO[bytes] | None = None) -> Bytes:
    """uint8 h w of a palette image, or of an RGB copy of one (content: what `path` only names)."""
    with opened(path, content) as image:
        if image.mode not in ("RGB", "RGBA"):
            return mask_of(image, path)
        colours = np.asarray(image.convert("RGB"), np.int64) @ (65536, 256, 1)
    table = np.asarray(palette("voc"), np.int64) @ (65536, 256, 1)
    order = np.argsort(table)
    found = order[np.searchsorted(table[order], colours).clip(max=len(order) - 1)]
    if not np.array_equal(table[found], colours):
        raise DataError(f"mask {path} holds colours that are not of VOC's palette", "use the released index masks")
    return np.asarray(found, np.uint8)


def _read_sbd(path: Path) -> Bytes:
    from scipy.io import loadmat

    try:
        return np.asarray(loadmat(str(path))["GTcls"][0]["Segmentation"][0], np.uint8)
    except (OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        raise DataError(f"{path} is not a mask of SBD: {error}", "unpack benchmark.tgz again") from error


DETECTION_AND_SEGMENTATION = Layout(index, {"segmentation": read_indices})
PRESENCE = Layout(index_presence)
