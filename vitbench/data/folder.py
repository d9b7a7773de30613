"""Bring your own: `folder:PATH` as a `datasets.Dataset`, decoded on access. The layout is in `folder_index`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.folder_index import TARGETS, FolderIndex, Sample, read_index
from vitbench.data.images import Bytes, Floats, orientation, read_depth, read_image, read_mask, require_same_shape
from vitbench.data.subset import Described, Limit, chosen
from vitbench.errors import DataError, UnavailableError
from vitbench.identity import digest
from vitbench.paths import cache_dir

if TYPE_CHECKING:
    import datasets

IGNORE_INDEX = 255
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def describe(path: Path, seed: int = 0) -> DatasetCard:
    """What is in a folder: images per split, targets that every split has, classes. Lists files; opens no image.

    Where no file names the mask classes, train masks are read once for the largest index (remembered in the cache).
    Raises UnavailableError and DataError as `read_index`.
    """
    index = read_index(path, seed)
    targets = tuple(t for t in TARGETS if all(any(s.has(t) for s in samples) for samples in index.splits.values()))
    classes = index.classes
    if "segmentation" in targets and not classes:
        classes = tuple(f"class_{i}" for i in range(_largest_index(index) + 1))
    found = ", ".join(f"{index.counts[t]} with {t}" for t in TARGETS if index.counts[t]) or "no targets"
    total = sum(map(len, index.splits.values()))
    return DatasetCard(
        name=f"folder:{path}",
        entry="vitbench.data.folder:load",
        summary=f"{total} images of your own: {found}",
        splits={name: len(samples) for name, samples in index.splits.items()},
        targets=targets,
        classes=classes if "segmentation" in targets else (),
        label_classes=index.label_classes,
        ignore_index=IGNORE_INDEX,
        licence="yours",
    )


def describe_split(path: Path, split: str, targets: tuple[str, ...], limit: Limit, seed: int) -> Described:
    """How many samples `load` gives, and digests of which: names, sizes of files, labels and boxes."""
    samples = select(read_index(path, seed), split, targets, limit, seed)
    return Described(
        len(samples),
        digest([sample.fingerprint(targets) for sample in samples]),
        digest(["folder", [sample.fingerprint(()) for sample in samples]]),
    )


def load(path: Path, split: str, targets: tuple[str, ...] = (), limit: Limit = None, seed: int = 0) -> datasets.Dataset:
    """The samples of a split that have all `targets`, in order of names; `limit` keeps a seeded choice of them.

    Columns on access: key; image (uint8 h w 3); of the targets label (int), segmentation (uint8 h w, 255 ignored),
    depth (float32 h w, metres, 0 unknown), boxes (float32 n 4, x0 y0 x1 y1 in pixels). All are upright: masks and depth
    must fit the upright image; boxes too, which for files with an EXIF rotation only the sizes in boxes.json can tell.
    Raises UnavailableError where the split or a target is not there, DataError (on access) for files that are broken.
    """
    import datasets

    samples = select(read_index(path, seed), split, targets, limit, seed)
    columns: dict[str, list[Any]] = {
        "key": [s.key for s in samples],
        "image": [s.image for s in samples],
    }
    for target in targets:
        columns[target] = [getattr(s, target) for s in samples]
    if "boxes" in targets:
        columns["boxes_wh"] = [s.boxes_wh for s in samples]
    return datasets.Dataset.from_dict(columns).with_transform(decode)


def select(index: FolderIndex, split: str, targets: tuple[str, ...], limit: Limit, seed: int) -> list[Sample]:
    """Samples of a split with all targets. Raises UnavailableError where none has them."""
    samples = [s for s in index.split(split) if all(s.has(t) for t in targets)]
    if not samples:
        raise UnavailableError(
            f"folder {index.root}: no image of split {split!r} has {' and '.join(targets) or 'content'}",
            "put the targets beside images/ under the same names (masks/*.png, depth/*, boxes.json, labels.csv)",
        )
    if limit is None:
        return samples
    labels = [s.label for s in samples]
    groups = labels if any(label is not None for label in labels) else None
    return [samples[i] for i in chosen([s.key for s in samples], groups, limit, seed)]


# -- decoding ----------------------------------------------------------------------------------------------------------


def decode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Paths and lists of a batch -> arrays, for the columns that are there."""
    images = [read_image(Path(p)) for p in batch["image"]] if "image" in batch else []
    out: dict[str, list[Any]] = {name: values for name, values in batch.items() if name in ("key", "label")}
    if images:
        out["image"] = images
    readers: dict[str, Callable[[Path], Any]] = {"segmentation": read_mask, "depth": read_depth}
    for target, read in readers.items():
        if target in batch:
            out[target] = [read(Path(p)) for p in batch[target]]
            for image, values, name in zip(images, out[target], batch[target], strict=bool(images)):
                require_same_shape(image, values, name)
    if "boxes" in batch and images:
        sizes = batch["boxes_wh"]
        out["boxes"] = [
            _upright_boxes(boxes, wh, image, Path(path))
            for boxes, wh, image, path in zip(batch["boxes"], sizes, images, batch["image"], strict=True)
        ]
    return out


def _upright_boxes(boxes: Any, wh: tuple[int, int] | None, image: Bytes, path: Path) -> Floats:
    """Boxes of the upright image. Where EXIF turns the file, boxes count as upright only if their stated size says so."""
    h, w = image.shape[:2]
    turned = orientation(path)
    stated = None if wh is None else tuple(wh)
    if turned != 1 and not (turned in SIDEWAYS and stated == (w, h) and w != h):
        raise DataError(
            f"image {path} is rotated by EXIF, and its boxes may refer to either frame",
            "store the image upright, or give the upright width and height in boxes.json",
        )
    if stated not in (None, (w, h)):
        raise DataError(
            f"boxes of {path} are for {stated[0]} x {stated[1]} pixels, it has {w} x {h}", "scale the boxes"
        )
    return np.asarray(boxes, np.float32).reshape(-1, 4)


# -- classes -----------------------------------------------------------------------------------------------------------


def _largest_index(index: FolderIndex) -> int:
    """Largest class index in the train masks (255 aside), remembered by the names and sizes of those masks."""
    train = index.splits.get("train") or next(iter(index.splits.values()))
    masks = [s.segmentation for s in train if s.segmentation is not None]
    sizes = [[mask, Path(mask).stat().st_size] for mask in masks]
    remembered = cache_dir() / "folders" / f"{digest(sizes)}.json"
    try:
        return int(json.loads(remembered.read_text())["largest_index"])
    except (OSError, ValueError, KeyError, TypeError):
        largest = max((_largest_in(read_mask(Path(mask))) for mask in masks), default=0)
    # A cache that cannot be written only costs time: the masks are read again next time.
    with contextlib.suppress(OSError):
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.write_text(json.dumps({"largest_index": largest}))
    return largest


def _largest_in(mask: Bytes) -> int:
    return int(mask.max(initial=0, where=mask != IGNORE_INDEX))
