"""What is in a `folder:`: which images, in which split, with which targets. Listing only: no image is opened.

    PATH/<split>/images/...            any depth of folders below; the stem below `images/` is the sample's name
    PATH/<split>/masks/<stem>.png      class indices, 255 ignored
    PATH/<split>/depth/<stem>.png|npy  uint16 millimetres, or metres
    PATH/<split>/boxes.json            COCO
    PATH/<split>/labels.csv            columns `file` and `label` (numbers or names)
    PATH/mask_classes.txt, classes.txt names of the mask classes, one a line (`index name`, or in order)

Without split folders (PATH/images, or images in PATH itself) samples are dealt into halves `train` and `val` by seed.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from vitbench.data.tree import NO_DATA
from vitbench.errors import DataError, UnavailableError

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"))
TARGETS = ("label", "segmentation", "depth", "boxes")
CLASS_FILES = ("mask_classes.txt", "classes.txt")
LAYOUT = (
    "lay it out as PATH/images/*.jpg or PATH/{train,val}/images/*.jpg, with any of masks/*.png, depth/*.png|*.npy, "
    "boxes.json, labels.csv beside images/"
)

Boxes = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Sample:
    """One image and the targets found for it: files by path; boxes x0 y0 x1 y1 in pixels of an image of `boxes_wh`."""

    key: str
    image: str
    segmentation: str | None = None
    depth: str | None = None
    label: int | None = None
    boxes: Boxes | None = None
    boxes_wh: tuple[int, int] | None = None

    def has(self, target: str) -> bool:
        return getattr(self, target) is not None

    def fingerprint(self, targets: tuple[str, ...]) -> list[Any]:
        """What identifies the sample as far as these targets go: names and sizes of files, labels, boxes."""
        values = [getattr(self, target) for target in sorted(targets)]
        return [self.key, _size(self.image), [_size(v) if isinstance(v, str) else v for v in values]]


@dataclass(frozen=True)
class FolderIndex:
    """Samples of each split in order of their names, and the names of classes."""

    root: Path
    splits: dict[str, tuple[Sample, ...]]
    classes: tuple[str, ...] = ()
    label_classes: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)  # target -> samples that have it

    def split(self, name: str) -> tuple[Sample, ...]:
        """Samples of a split; raises UnavailableError where there is none of that name."""
        if name not in self.splits:
            raise UnavailableError(
                f"folder {self.root} has no split {name!r}, it has {', '.join(self.splits)}",
                f"add {self.root / name}/images, or put all images into {self.root}/images to have them split",
            )
        return self.splits[name]


def read_index(root: Path, seed: int = 0) -> FolderIndex:
    """The index of a folder. Raises UnavailableError where there is nothing, DataError where a file is not as it should be."""
    if not root.is_dir():
        raise UnavailableError(f"there is no folder {root}", LAYOUT)
    return _read_index(root, seed, _stamp(root))


def _stamp(root: Path) -> tuple[tuple[str, int], ...]:
    """Modification times of folders and annotations: an index read before is good as long as they stand."""
    folders = [folder for folder, _, _ in os.walk(root)]
    files = [f"{folder}/{name}" for folder in folders for name in ("boxes.json", "labels.csv", *CLASS_FILES)]
    return tuple((p, Path(p).stat().st_mtime_ns) for p in [*folders, *(f for f in files if Path(f).is_file())])


@lru_cache(maxsize=16)
def _read_index(root: Path, seed: int, stamp: tuple[tuple[str, int], ...]) -> FolderIndex:
    del stamp  # part of the key only
    places = sorted(p for p in root.iterdir() if (p / "images").is_dir() and not p.name.startswith((".", NO_DATA)))
    if places:
        raw = {place.name: _samples(place, place / "images", f"{place.name}/") for place in places}
    else:
        images = root / "images" if (root / "images").is_dir() else root
        raw = _halves(_samples(root, images, ""), seed)
    if not any(raw.values()):
        raise UnavailableError(f"there are no images in {root}", LAYOUT)
    names = _label_names(root, [*places, root])
    splits = {name: tuple(_labelled(sample, names) for sample in samples) for name, samples in raw.items()}
    counts = {t: sum(s.has(t) for samples in splits.values() for s in samples) for t in TARGETS}
    label_classes = tuple(names.classes) if counts["label"] else ()
    return FolderIndex(root, splits, _class_names(root), label_classes, counts)


def _halves(samples: list[Sample], seed: int) -> dict[str, list[Sample]]:
    """Two halves by the order of seeded hashes of names, each in order of names."""
    shuffled = by_hash(samples, seed)
    middle = (len(samples) + 1) // 2
    return {"train": sorted(shuffled[:middle], key=_name), "val": sorted(shuffled[middle:], key=_name)}


def by_hash(samples: list[Sample], seed: int) -> list[Sample]:
    """Samples in an order that depends on the seed and their names alone."""
    return sorted(samples, key=lambda s: hashlib.sha256(f"{seed}/{s.key}".encode()).digest())


def _name(sample: Sample) -> str:
    return sample.key


# -- files -----------------------------------------------------------------------------------------------------------


def _samples(place: Path, images: Path, prefix: str) -> list[Sample]:
    skip = {"masks", "depth"} if images == place else set()
    found = _by_stem(images, IMAGE_SUFFIXES, skip)
    masks = _by_stem(place / "masks", frozenset((".png",)))
    depths = _by_stem(place / "depth", frozenset((".png", ".npy")))
    boxes = _read_boxes(place / "boxes.json", set(found))
    samples = []
    for stem in sorted(found):
        box, wh = boxes.get(stem, (None, None))
        samples.append(Sample(prefix + stem, found[stem], masks.get(stem), depths.get(stem), None, box, wh))
    return samples


def _by_stem(folder: Path, suffixes: frozenset[str], skip: set[str] | None = None) -> dict[str, str]:
    """Stem below the folder -> file. Two files of one stem are a DataError: a target could belong to either."""
    found: dict[str, str] = {}
    for entry, below in _walk(folder, "", skip or set()):
        stem, dot, suffix = below.rpartition(".")
        if not dot or f".{suffix.lower()}" not in suffixes:
            continue
        if stem in found:
            raise DataError(f"{entry.path} and {found[stem]} have the same name", "rename or remove one of them")
        found[stem] = entry.path
    return found


def _walk(folder: Path | str, below: str, skip: set[str]) -> Iterator[tuple[os.DirEntry[str], str]]:
    if not Path(folder).is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.startswith((".", NO_DATA)):
                continue
            if entry.is_dir():
                if entry.name not in skip:
                    yield from _walk(entry.path, f"{below}{entry.name}/", set())
            else:
                yield entry, below + entry.name


# -- boxes -----------------------------------------------------------------------------------------------------------


def _read_boxes(path: Path, stems: set[str]) -> dict[str, tuple[Boxes, tuple[int, int] | None]]:
    """Stem -> boxes and the (width, height) they refer to. Crowds and boxes without area are left out; so are images
    without any box, which nothing can be measured on."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: image for image in content["images"]}
        found: dict[str, list[tuple[float, float, float, float]]] = {}
        sizes: dict[str, tuple[int, int] | None] = {}
        for annotation in content["annotations"]:
            x, y, w, h = (float(v) for v in annotation["bbox"])
            if annotation.get("iscrowd") or w <= 0 or h <= 0:
                continue
            image = images[annotation["image_id"]]
            stem = _stem_of(str(image["file_name"]), stems)
            found.setdefault(stem, []).append((x, y, x + w, y + h))
            sizes[stem] = (
                (int(image["width"]), int(image["height"])) if "width" in image and "height" in image else None
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is not COCO JSON ({type(error).__name__}: {error})",
            "it needs images [{id, file_name}] and annotations [{image_id, bbox: [x, y, w, h]}]",
        ) from error
    if found and not stems & set(found):
        raise DataError(f"{path} names none of the images beside it", "file_name is relative to images/")
    return {stem: (tuple(boxes), sizes[stem]) for stem, boxes in found.items()}


def _stem_of(file_name: str, stems: set[str]) -> str:
    """The stem a listed file stands for: as written, or its last part where the list keeps other folders."""
    stem = PurePosixPath(file_name).with_suffix("").as_posix()
    return stem if stem in stems else PurePosixPath(stem).name


# -- labels and names ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Labels:
    """Label of each sample key, and the names of classes by index."""

    of: dict[str, int]
    classes: list[str]


def _label_names(root: Path, places: list[Path]) -> _Labels:
    """All labels.csv of a folder together, so that splits agree on what an index means."""
    texts: dict[str, str] = {}
    for place in places:
        prefix = "" if place == root else f"{place.name}/"
        for file, label in _read_labels(place / "labels.csv"):
            texts[prefix + PurePosixPath(file).with_suffix("").as_posix()] = label
    if not texts:
        return _Labels({}, [])
    if all(re.fullmatch(r"\d+", text) for text in texts.values()):
        numbers = {key: int(text) for key, text in texts.items()}
        return _Labels(numbers, [str(i) for i in range(max(numbers.values()) + 1)])
    classes = sorted(set(texts.values()))
    index = {name: i for i, name in enumerate(classes)}
    return _Labels({key: index[text] for key, text in texts.items()}, classes)


def _read_labels(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise DataError(
                    f"{path} has columns {', '.join(reader.fieldnames or ()) or 'none'}", "it needs `file,label`"
                )
            table = [(str(row["file"]).strip(), str(row["label"] or "").strip()) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}", "save it as UTF-8 CSV with columns `file,label`") from error
    for line, (file, label) in enumerate(table, start=2):
        if not file or not label:
            raise DataError(f"{path}, line {line}: empty file or label", "fill it in or remove the line")
    return table


def _labelled(sample: Sample, labels: _Labels) -> Sample:
    for key in (sample.key, PurePosixPath(sample.key).name):
        if key in labels.of:
            return Sample(**{**sample.__dict__, "label": labels.of[key]})
    return sample


def _class_names(root: Path) -> tuple[str, ...]:
    """Names of mask classes by index; () where no file names them."""
    path = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    if path is None:
        return ()
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}", "save it as UTF-8 text, one class a line") from error
    numbered = [re.fullmatch(r"(\d+)[\s:,;]+(.+)", line) for line in lines]
    if not all(numbered):
        return tuple(lines)
    names = {int(match[1]): match[2].strip() for match in numbered if match}
    return tuple(names.get(i, f"class_{i}") for i in range(max(names) + 1)) if names else ()


def _size(path: str) -> int:
    return os.stat(path).st_size  # noqa: PTH116 - a Path for each of many files takes longer than asking the disk
