"""Where grid cells lie in the source image. Boxes, keypoints and label maps are written against this, never against paths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Placement:
    """How one view pixel maps to the source: source = scale * view + offset, per axis; `content_hw` is what is not padding.

    source_hw: size of the image in pixels; view_hw: size of the network input (padding included); content_hw: the part of the
    view that shows the image, which starts at content_at (mostly the top left); scale, offset as (y, x); flipped: mirrored
    left to right.
    """

    source_hw: tuple[int, int]
    view_hw: tuple[int, int]
    content_hw: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    flipped: bool = False
    content_at: tuple[int, int] = (0, 0)

    @property
    def content(self) -> tuple[slice, slice]:
        """Rows and columns of the view that show the image."""
        (y, x), (h, w) = self.content_at, self.content_hw
        return slice(y, y + h), slice(x, x + w)


@dataclass(frozen=True)
class Geometry:
    """Grid of one batch: `patch_px`, `grid_hw`, and a placement per image."""

    patch_px: int
    grid_hw: tuple[int, int]
    placements: tuple[Placement, ...]

    def __len__(self) -> int:
        return len(self.placements)

    def valid(self) -> npt.NDArray[np.bool_]:
        """b h w: cells that show at least some of the image (False: padding only)."""
        h, w = self.grid_hw
        rows = np.arange(h) * self.patch_px
        cols = np.arange(w) * self.patch_px
        return np.stack(
            [
                _touched(rows, self.patch_px, p.content[0])[:, None]
                & _touched(cols, self.patch_px, p.content[1])[None, :]
                for p in self.placements
            ]
        )

    def to_pixels(self, i: int, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Boxes in cells of image i (x0 y0 x1 y1, exclusive ends, n 4) -> source pixels, clipped to the source image."""
        p = self.placements[i]
        view = np.asarray(boxes, np.float64).reshape(-1, 4) * self.patch_px
        if p.flipped:
            view = np.stack([p.view_hw[1] - view[:, 2], view[:, 1], p.view_hw[1] - view[:, 0], view[:, 3]], axis=1)
        x = np.clip(view[:, 0::2] * p.scale[1] + p.offset[1], 0, p.source_hw[1])
        y = np.clip(view[:, 1::2] * p.scale[0] + p.offset[0], 0, p.source_hw[0])
        return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1).astype(np.float32)

    def to_cells(self, i: int, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Source points of image i (x y in pixels, n 2) -> continuous cell coordinates (x y; cell k spans [k, k + 1))."""
        p = self.placements[i]
        x = (np.asarray(points, np.float64)[:, 0] - p.offset[1]) / p.scale[1]
        y = (np.asarray(points, np.float64)[:, 1] - p.offset[0]) / p.scale[0]
        if p.flipped:
            x = p.view_hw[1] - x
        return (np.stack([x, y], axis=1) / self.patch_px).astype(np.float32)

    def from_cells(self, i: int, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Continuous cell coordinates of image i (x y, n 2) -> source pixels; the inverse of `to_cells`."""
        p = self.placements[i]
        view = np.asarray(points, np.float64).reshape(-1, 2) * self.patch_px
        x = p.view_hw[1] - view[:, 0] if p.flipped else view[:, 0]
        return np.stack([x * p.scale[1] + p.offset[1], view[:, 1] * p.scale[0] + p.offset[0]], axis=1).astype(
            np.float32
        )

    def place_labels(self, i: int, labels: npt.NDArray[np.generic], fill: int = 255) -> npt.NDArray[np.generic]:
        """A label or depth map of image i (source h w) as the view sees it (view h w), nearest neighbour, `fill` in padding."""
        p = self.placements[i]
        out = np.full(p.view_hw, fill, dtype=labels.dtype)
        (ch, cw), (cy, cx) = p.content_hw, p.content_at
        # Pixel centres; the map may have another size than the image, so it is indexed in relative coordinates.
        y = ((np.arange(ch) + cy + 0.5) * p.scale[0] + p.offset[0]) / p.source_hw[0] * labels.shape[0]
        x = ((np.arange(cw) + cx + 0.5) * p.scale[1] + p.offset[1]) / p.source_hw[1] * labels.shape[1]
        yi = np.clip(y.astype(np.int64), 0, labels.shape[0] - 1)
        xi = np.clip(x.astype(np.int64), 0, labels.shape[1] - 1)
        shown = labels[yi[:, None], xi[None, :]]
        # A view may show more than the image (white added to make a square).
        shown = np.where((y < labels.shape[0])[:, None] & (x < labels.shape[1])[None, :], shown, fill)
        out[p.content] = shown
        return out[:, ::-1].copy() if p.flipped else out

    def select(self, indices: list[int]) -> Geometry:
        return Geometry(self.patch_px, self.grid_hw, tuple(self.placements[i] for i in indices))


def _touched(starts: npt.NDArray[np.integer], patch_px: int, content: slice) -> npt.NDArray[np.bool_]:
    """Which cells of an axis (by their first pixel) show a pixel of the content."""
    return np.asarray((starts < content.stop) & (starts + patch_px > content.start))
