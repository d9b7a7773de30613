"""Placing an image in a view: what the network will see of it, and where that lies. No torch, so that decoding stays light."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitbench.catalogue.views import ONE_SIDE, Resample, View
from vitbench.errors import DataError
from vitbench.tokens.bilinear import bilinear
from vitbench.tokens.geometry import Placement

Pixels = npt.NDArray[np.uint8]


def _resized(image: Pixels, hw: tuple[int, int], resample: Resample) -> Pixels:
    """PIL bicubic with antialias, the resampler of the reference k-NN, hummingbird and CAPI pipelines, or OpenCV's bilinear."""
    if image.shape[:2] == hw:
        return image
    if resample == "bilinear":
        return bilinear(image, hw)
    return np.asarray(Image.fromarray(image).resize((hw[1], hw[0]), Image.Resampling.BICUBIC))


def place(image: Pixels, view: View, patch_px: int) -> list[tuple[Pixels, Placement]]:
    """The network inputs of one image (several for `slide`), before padding and normalisation."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"an image must be uint8 h w 3, not {image.dtype} {image.shape}")
    source = image.shape[0], image.shape[1]
    if view.kind in ONE_SIDE:
        hw = view.sized_hw(source, patch_px)
        return [(_resized(image, hw, view.resample), Placement(source, hw, hw, (source[0] / hw[0], source[1] / hw[1])))]
    view = view.snapped(patch_px)
    if view.kind == "whole":
        padded = tuple(-(-n // patch_px) * patch_px for n in source)
        return [(image, Placement(source, (padded[0], padded[1]), source))]
    size = view.size_px
    if view.kind == "square":
        side = max(source)
        padded_image = np.full((side, side, 3), 255, np.uint8)
        padded_image[: source[0], : source[1]] = image
        scale = side / size
        whole = -(-size // patch_px) * patch_px
        margin = (whole - size) // 2
        placement = Placement(
            source, (whole, whole), (size, size), (scale, scale), (-margin * scale,) * 2, content_at=(margin, margin)
        )
        return [(_resized(padded_image, (size, size), view.resample), placement)]
    if view.kind in ("resize", "flip"):
        scale = source[0] / size, source[1] / size
        flipped = view.kind == "flip"
        out = _resized(image, (size, size), view.resample)
        out = np.ascontiguousarray(out[:, ::-1]) if flipped else out
        return [(out, Placement(source, (size, size), (size, size), scale, flipped=flipped))]
    shorter = view.resize_px if view.kind == "crop" else size
    factor = shorter / min(source)
    if view.kind == "centre":  # as torchvision, which rounds the longer side down
        hw = (size * source[0] // min(source), size * source[1] // min(source))
    else:
        hw = max(round(source[0] * factor), shorter), max(round(source[1] * factor), shorter)
    scale = source[0] / hw[0], source[1] / hw[1]
    resized = _resized(image, hw, view.resample)
    if view.kind in ("crop", "centre"):
        corners = [(round((hw[0] - size) / 2), round((hw[1] - size) / 2))]
    else:
        corners = [(y, x) for y in _starts(hw[0], size, view.stride_px) for x in _starts(hw[1], size, view.stride_px)]
    return [
        (
            np.ascontiguousarray(resized[y : y + size, x : x + size]),
            Placement(source, (size, size), (size, size), scale, (y * scale[0], x * scale[1])),
        )
        for y, x in corners
    ]


def _starts(length: int, window: int, stride: int) -> list[int]:
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - window), 0) for i in range(count)]
