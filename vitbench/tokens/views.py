"""Applying a view: decoded images (uint8 h w 3) to network input, with the geometry that leads back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitbench.errors import DataError
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.placing import Pixels, place

__all__ = ["Pixels", "batch", "normalise", "place"]


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
