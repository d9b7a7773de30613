"""Bilinear resizing with half-pixel centres, of a part of the result alone, in plain numpy.

The numbers are those of torch's `interpolate` to the last bit (as compiled for x86 with fused multiplication and addition), but
a process that decodes needs no torch for them, and what a crop throws away is not computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
_STRIP = 16  # rows at once: what stays in a core's own cache
WHOLE = slice(None)


def bilinear(image: Pixels, hw: tuple[int, int], rows: slice = WHOLE, columns: slice = WHOLE) -> Pixels:
    """uint8 h w 3 -> its size `hw`, of which the given rows and columns."""
    top, bottom, above, below = _between(image.shape[0], hw[0], rows)
    left, right, west, east = _between(image.shape[1], hw[1], columns)
    needed = image[top[0] : bottom[-1] + 1]
    sides = [needed[:, at].reshape(len(needed), -1).astype(np.float64) for at in (left, right)]
    west, east = west.repeat(3), east.repeat(3)
    out = np.empty((len(top), len(west)), np.uint8)
    for r in range(0, len(top), _STRIP):
        strip = slice(r, r + _STRIP)
        up, down, a, b = top[strip] - top[0], bottom[strip] - top[0], above[strip, None], below[strip, None]
        total = _rounded((a * east) * sides[1][up])
        # float32 products are exact in float64: each addition is rounded once, as a fused one is.
        for weights, values in (
            (a * west, sides[0][up]), (b * west, sides[0][down]), (b * east, sides[1][down]),
        ):  # fmt: skip
            total = _rounded(weights * values + total)
        out[strip] = np.rint(total).clip(0, 255)
    return out.reshape(len(top), len(left), 3)


def _rounded(values: npt.NDArray[np.float64]) -> Floats:
    return values.astype(np.float32)


def _between(length: int, cells: int, part: slice) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any], Floats, Floats]:
    """For each of some of the cells along an axis: the two positions it lies between, and their float32 weights."""
    scale = np.float64(np.float32(length) / np.float32(cells))
    at = (scale * (np.arange(cells)[part] + 0.5) - 0.5).astype(np.float32).clip(0)
    low = np.minimum(at.astype(np.int64), length - 1)
    far = np.minimum(at - low.astype(np.float32), np.float32(1))
    return low, np.minimum(low + 1, length - 1), np.float32(1) - far, far
