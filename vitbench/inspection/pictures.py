"""Images to look at: files, folders, and the lab's own scenes; shrunk to what a ViT takes in one forward."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vitbench.data.folder_index import IMAGE_SUFFIXES
from vitbench.data.images import Bytes, read_image
from vitbench.errors import NothingSelectedError, UsageError
from vitbench.inspection.looks import Picture

SCENES = "scenes"
TARGETS = {"masks", "depth"}  # folders beside images/ in which a data set keeps what is no picture


def gather(names: Iterable[str], limit: int) -> list[tuple[str, Bytes]]:
    """The first `limit` images (name, uint8 h w 3) of files, folders and `scenes[:INDEX]`, in the order given.

    Raises DataError for a file that is no image, UsageError for one that is not there, NothingSelectedError for a folder of none.
    """
    found: list[tuple[str, Bytes]] = []
    for name in names:
        for source in _sources(name):
            if len(found) == limit:
                return found
            found.append(source if isinstance(source, tuple) else (source.name, read_image(source)))
    if not found:
        raise UsageError("no image named", "give image files, a folder, or `scenes:0` for one of the lab's")
    return found


def _sources(name: str) -> Iterator[Path | tuple[str, Bytes]]:
    kind, _, index = name.partition(":")
    path = Path(name).expanduser()
    if kind == SCENES and not path.exists():
        yield from _scenes(index)
    elif path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        files = [p for p in files if not TARGETS & set(p.relative_to(path).parts[:-1])]
        if not files:
            raise NothingSelectedError(
                f"there is no image in {path}", f"images are files that end in {', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        yield from files
    elif path.exists():
        yield path
    else:
        raise UsageError(f"there is no file {path}", "give image files, a folder, or `scenes:0` for one of the lab's")


def _scenes(index: str) -> Iterator[tuple[str, Bytes]]:
    from vitbench.data.scenes import SPLITS, render

    seed, count = SPLITS["val"]
    if index and not (index.isdecimal() and int(index) < count):
        raise UsageError(f"there is no scene {index!r}", f"scenes:0 to scenes:{count - 1}")
    for i in [int(index)] if index else range(count):
        yield f"scene {i}", render(seed, i).image


def fitted(name: str, pixels: Bytes, patch_px: int, longest_px: int) -> Picture:
    """The picture with its longer side at most `longest_px` and both sides multiples of the patch (bicubic).

    So no cell of the grid is padding, and the aspect changes by less than half a patch.
    """
    h, w = pixels.shape[:2]
    scale = min(1.0, longest_px / max(h, w))
    height, width = (max(round(n * scale / patch_px), 1) * patch_px for n in (h, w))
    if (height, width) != (h, w):
        resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(resized)
    return Picture(name, np.ascontiguousarray(pixels))
