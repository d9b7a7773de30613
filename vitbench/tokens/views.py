"""Applying a view: decoded images (uint8 h w 3) to network input, with the geometry that leads back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from vitbench.catalogue.views import ONE_SIDE, View
from vitbench.errors import DataError
from vitbench.tokens.geometry import Geometry, Placement

Pixels = npt.NDArray[np.uint8]


def _resized(image: Pixels, hw: tuple[int, int]) -> Pixels:
    """PIL bicubic with antialias, the resampler of the reference k-NN, hummingbird and CAPI pipelines."""
    if image.shape[:2] == hw:
        return image
    return np.asarray(Image.fromarray(image).resize((hw[1], hw[0]), Image.Resampling.BICUBIC))


def place(image: Pixels, view: View, patch_px: int) -> list[tuple[Pixels, Placement]]:
    """The network inputs of one image (several for `slide`), before padding and normalisation."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"an image must be uint8 h w 3, not {image.dtype} {image.shape}")
    source = image.shape[0], image.shape[1]
    if view.kind in ONE_SIDE:
        hw = view.sized_hw(source, patch_px)
        return [(_resized(image, hw), Placement(source, hw, hw, (source[0] / hw[0], source[1] / hw[1])))]
    view = view.snapped(patch_px)
    if view.kind == "whole":
        padded = tuple(-(-n // patch_px) * patch_px for n in source)
        return [(image, Placement(source, (padded[0], padded[1]), source))]
    size = view.size_px
    if view.kind == "square":
        side = max(source)
        padded_image = np.full((side, side, 3), 255, np.uint8)
        padded_image[: source[0], : source[1]] = image
        return [
            (_resized(padded_image, (size, size)), Placement(source, (size, size), (size, size), (side / size,) * 2))
        ]
    if view.kind in ("resize", "flip"):
        scale = source[0] / size, source[1] / size
        flipped = view.kind == "flip"
        out = _resized(image, (size, size))
        out = np.ascontiguousarray(out[:, ::-1]) if flipped else out
        return [(out, Placement(source, (size, size), (size, size), scale, flipped=flipped))]
    shorter = view.resize_px if view.kind == "crop" else size
    factor = shorter / min(source)
    hw = max(round(source[0] * factor), shorter), max(round(source[1] * factor), shorter)
    scale = source[0] / hw[0], source[1] / hw[1]
    resized = _resized(image, hw)
    if view.kind == "crop":
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


def batch(placed: Sequence[tuple[Pixels, Placement]], patch_px: int) -> tuple[Tensor, Geometry]:
    """Inputs of one padded size -> (uint8 b 3 h w, geometry). Padding is marked by the placements, and zero here."""
    h, w = placed[0][1].view_hw
    out = torch.zeros(len(placed), 3, h, w, dtype=torch.uint8)
    for i, (pixels, placement) in enumerate(placed):
        if placement.view_hw != (h, w):
            raise DataError(f"views of {placement.view_hw} and {(h, w)} in one batch")
        rows, cols = placement.content
        out[i, :, rows, cols] = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
    return out, Geometry(patch_px, (h // patch_px, w // patch_px), tuple(p for _, p in placed))


def normalise(
    pixels: Tensor, geometry: Geometry, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype
) -> Tensor:
    """uint8 b 3 h w -> (x / 255 - mean) / std, zero where there is padding (so padding is grey, as in LOST and DINOv2)."""
    x = pixels.to(torch.float32).div_(255)
    m = torch.tensor(mean, device=x.device).view(1, 3, 1, 1)
    s = torch.tensor(std, device=x.device).view(1, 3, 1, 1)
    x = x.sub_(m).div_(s)
    for i, p in enumerate(geometry.placements):
        if p.content_hw != p.view_hw:
            rows, cols = p.content
            for outside in (
                x[i, :, : rows.start],
                x[i, :, rows.stop :],
                x[i, :, :, : cols.start],
                x[i, :, :, cols.stop :],
            ):
                outside.zero_()
    return x.to(dtype)
