"""From the grid to label pixels: bilinear, in one step, through whatever view the tokens were seen.

Where the view is the image itself this equals `interpolate(..., mode="bilinear", align_corners=False)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.tokens.geometry import Geometry

_VALUES = 1 << 23  # upsampled values held at once
_LOWEST = -1e30  # in place of -inf, the score of a class that no train pixel shows: 0 x -inf is no number


def _axis(
    length: int, source: int, scale: float, offset: float, content: slice, patch_px: int, cells: int, mirror: int
) -> tuple[slice, npt.NDArray[np.float32]]:
    """The label pixels of one axis that lie inside the view, and their bilinear weights on grid cells (n, cells)."""
    view = ((np.arange(length) + 0.5) * (source / length) - offset) / scale
    inside = np.flatnonzero((view >= content.start) & (view < content.stop))
    if not len(inside):
        return slice(0, 0), np.zeros((0, cells), np.float32)
    span = slice(int(inside[0]), int(inside[-1]) + 1)
    position = (mirror - view[span] if mirror else view[span]) / patch_px - 0.5
    position = np.clip(position, 0, cells - 1)
    low = np.minimum(position.astype(np.int64), cells - 1)
    high = np.minimum(low + 1, cells - 1)
    weights = np.zeros((len(position), cells), np.float32)
    rows = np.arange(len(position))
    np.add.at(weights, (rows, low), 1 - (position - low))
    np.add.at(weights, (rows, high), position - low)
    return span, weights


class LabelSampler:
    """Bilinear sampling of the grid of image i at the pixel centres of its label map (label_hw).

    `rows`, `cols`: the part of the label map that the view shows.
    """

    def __init__(self, geometry: Geometry, i: int, label_hw: tuple[int, int], device: Any = "cpu") -> None:
        p, (h, w) = geometry.placements[i], geometry.grid_hw
        self.rows, down = _axis(
            label_hw[0], p.source_hw[0], p.scale[0], p.offset[0], p.content[0], geometry.patch_px, h, 0
        )
        self.cols, across = _axis(
            label_hw[1], p.source_hw[1], p.scale[1], p.offset[1], p.content[1], geometry.patch_px, w,
            p.view_hw[1] if p.flipped else 0,
        )  # fmt: skip
        self._down, self._across = torch.from_numpy(down).to(device), torch.from_numpy(across).to(device)

    def values(self, grid: Tensor) -> Tensor:
        """grid h w k -> k rows cols."""
        return (self._down @ grid.permute(2, 0, 1)) @ self._across.T

    def classes(self, grid: Tensor) -> npt.NDArray[np.int64]:
        """Index of the largest of k values at every pixel: grid h w k -> rows cols. In strips, for large images and many k."""
        return self.strips(grid, lambda values: values.max(0).indices)

    def strips(self, grid: Tensor, classify: Callable[[Tensor], Tensor]) -> npt.NDArray[np.int64]:
        """`classify` (k rows cols -> rows cols) on upsampled values, a few rows at a time: grid h w k -> rows cols."""
        step = max(_VALUES // max(grid.shape[2] * len(self._across), 1), 1)
        planes = grid.permute(2, 0, 1).clamp_min(_LOWEST)
        strips = [
            classify((self._down[r : r + step] @ planes) @ self._across.T)
            for r in range(0, max(len(self._down), 1), step)
        ]
        return np.asarray(torch.cat(strips).cpu().numpy(), np.int64)

    def carried_down(self, planes: Tensor) -> Tensor:
        """The transpose of upsampling: k rows cols -> k h w, every pixel's value spread over the cells it is sampled from."""
        return (self._down.T @ planes) @ self._across
