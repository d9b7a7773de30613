"""Masks as COCO writes them (Lin et al. 2014, arXiv 1405.0312): polygons, and run lengths plain or as text.

Run lengths count down columns, background first. As text, each is cut into 5-bit groups, lowest first, bit 6 saying that
more follow and the last group's bit 5 its sign; from the third on, they are differences to the one two before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from vitbench.errors import DataError

Mask = npt.NDArray[np.bool_]


def decode_mask(segmentation: Any, hw: tuple[int, int]) -> Mask:
    """bool h w of one annotation's `segmentation`. Raises DataError where it does not fit."""
    if isinstance(segmentation, list):
        return _polygons(segmentation, hw)
    counts = segmentation["counts"]
    lengths = runs(counts) if isinstance(counts, str) else [int(c) for c in counts]
    if sum(lengths) != hw[0] * hw[1]:
        raise DataError(f"a run-length mask of {sum(lengths)} pixels is not {hw[1]} x {hw[0]}", "use the released file")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(hw[1], hw[0]).T


def runs(text: str) -> list[int]:
    """Run lengths of a compressed mask."""
    lengths: list[int] = []
    value = shift = 0
    for char in text:
        group = ord(char) - 48
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value = shift = 0
    return lengths


def _polygons(polygons: list[list[float]], hw: tuple[int, int]) -> Mask:
    image = Image.new("1", (hw[1], hw[0]))
    draw = ImageDraw.Draw(image)
    for points in polygons:
        # Corners lie between pixels; Pillow counts from their centres.
        shifted = [float(v) - 0.5 for v in points]
        draw.polygon(list(zip(shifted[::2], shifted[1::2], strict=True)), fill=1)
    return np.array(image, bool)
