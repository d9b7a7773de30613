"""Reading one file: images, index masks and depth maps, as arrays. What cannot be used is a DataError that names the file.

Choices, all as common pipelines make them: EXIF rotation is applied to images; alpha is dropped (not composited); grey,
palette and CMYK become RGB; 16-bit values are scaled to 8 bits.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from vitbench.errors import DataError

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

MILLIMETRES = np.float32(1000)
EXIF_ORIENTATION = 0x0112
ASPECT_TOLERANCE = 0.02
# Pillow stretches grey of 2 and 4 bits, in which optimisers store masks of few classes, over 0 to 255.
_GREY_STEPS = {"L;2": 85, "L;4": 17}
# All that Pillow raises for files that are cut short or not what they claim to be.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def read_image(path: Path, upright: bool = True, least_px: int = 0, content: IO[bytes] | None = None) -> Bytes:
    """uint8 h w 3, upright, or as stored. Raises DataError for files that are missing, cut short or not images.

    least_px: a JPEG whose sides a factor of 2, 4 or 8 divides is decoded at that fraction of its size, as long as the
    shorter side keeps so many pixels; several times what is finally needed, or fine patterns come out otherwise.
    content: what is read instead, where `path` only names it.
    """
    with opened(path, content) as image:
        if least_px and image.format == "JPEG":
            w, h = image.size
            # Only where nothing is rounded: half a pixel more would move the picture.
            fits = (s for s in (8, 4, 2) if w % s == 0 == h % s and min(w, h) // s >= least_px)
            if factor := next(fits, 0):
                image.draft("RGB", (w // factor, h // factor))
        return np.array(_as_rgb(ImageOps.exif_transpose(image) if upright else image, path))


def orientation(path: Path) -> int:
    """The EXIF orientation of an image: 1 (upright) to 8; reads the header only."""
    with opened(path) as image:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))


def require_same_shape(image: Bytes, values: Bytes | Floats, name: str) -> None:
    """Maps may be smaller or larger than their image, but not of another shape: that is a wrong file or a lost rotation."""
    (h, w), (mh, mw) = image.shape[:2], values.shape
    if abs(mw * h / (mh * w) - 1) > ASPECT_TOLERANCE + 1 / min(mh, mw):
        raise DataError(
            f"{name} is {mw} x {mh}, its image {w} x {h}",
            "check the pair; images of your own are turned as EXIF says, those of released data sets are not",
        )


def read_mask(path: Path) -> Bytes:
    """uint8 h w: the indices of a palette image (not its colours) or the values of a grey one."""
    with opened(path) as image:
        return mask_of(image, path)


def mask_of(image: Image.Image, path: Path) -> Bytes:
    """`read_mask` of an opened image, which `path` names."""
    if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
        raise DataError(
            f"mask {path} is a {image.mode} image, not one of class indices",
            "save it as index or grey PNG, 255 = ignored",
        )
    tiles = getattr(image, "tile", None)  # where Pillow says how a file stores its pixels
    step = _GREY_STEPS.get(str(tiles[0][3]) if tiles else "", 1)
    values = np.array(image) // step if step > 1 else np.array(image)
    if values.size and (values.min() < 0 or values.max() > 255):
        raise DataError(
            f"mask {path} holds {values.min()} to {values.max()}", "class indices lie in 0 to 254, 255 = ignored"
        )
    return values.astype(np.uint8)


def read_depth(path: Path) -> Floats:
    """float32 h w, metres; 0 where there is no measurement.

    PNG: 16 bits, millimetres. npy: floating point, metres; zero, negative, infinite and NaN are no measurement.
    """
    if path.suffix.lower() == ".npy":
        return _depth_array(path)
    return read_values(path).astype(np.float32) / MILLIMETRES


def read_values(path: Path, content: IO[bytes] | None = None) -> npt.NDArray[np.int64]:
    """int64 h w: the values of a 16-bit grey image (content: what `path` only names), as they are."""
    with opened(path, content) as image:
        if not image.mode.startswith("I"):
            raise DataError(
                f"depth {path} is a {image.mode} image", "save depth as 16-bit grey PNG in millimetres, or as .npy"
            )
        return np.array(image).astype(np.int64)


def _depth_array(path: Path) -> Floats:
    try:
        # No pickles: an object array could run code.
        values = np.load(path, allow_pickle=False)
    except _BROKEN as error:
        raise DataError(f"cannot read depth {path}: {_first_line(error)}", "save it again with numpy.save") from error
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating):
        raise DataError(
            f"depth {path} is {values.dtype} of shape {values.shape}",
            "save h x w floating-point metres with numpy.save",
        )
    depth = values.astype(np.float32)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.array(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise DataError(f"image {path} holds values outside 16 bits", "save it with 8 or 16 bits a channel")
        return Image.fromarray(_to_8_bits(values)).convert("RGB")
    if image.mode == "F":
        raise DataError(f"image {path} holds floating-point values", "save it with 8 or 16 bits a channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns on the direct way
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        return _without_alpha(image)
    return image.convert("RGB")


def _without_alpha(image: Image.Image) -> Image.Image:
    straight = image.convert("RGBA") if image.mode != "RGBA" else image
    return Image.merge("RGB", straight.split()[:3])


def _to_8_bits(values: npt.NDArray[np.int64]) -> Bytes:
    return ((values * 255 + 32767) // 65535).astype(np.uint8)


@contextmanager
def opened(path: Path, content: IO[bytes] | None = None) -> Iterator[Image.Image]:
    """The file (or `content`, which `path` names) as a Pillow image; whatever breaks on the way is a DataError that names it."""
    try:
        with warnings.catch_warnings():
            # Large pictures and odd metadata are the user's own; only what cannot be read is reported.
            warnings.simplefilter("ignore")
            with Image.open(content or path) as image:
                yield image
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}", "check the folder") from error
    except PermissionError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "check its permissions") from error
    except _BROKEN as error:
        raise DataError(f"cannot read {path}: {_first_line(error)}", "replace or remove the file") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
