"""What a depth map and a camera pose say of an object: points in its own frame, and where another camera sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.tokens.geometry import Geometry

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """X_camera = rotation X_object + translation, in metres; focal length and centre (x y) in pixels of the source image."""

    rotation: Floats
    translation: Floats
    focal_px: float
    centre_px: Floats

    @staticmethod
    def of(pose: Mapping[str, Any], pose_hw: tuple[int, int], image_hw: tuple[int, int]) -> Camera:
        """From a sample's `pose`. The principal point is assumed at the centre of the image as it was before any crop."""
        x0, y0, width, height = pose.get("crop") or (0.0, 0.0, float(image_hw[1]), float(image_hw[0]))
        centre = np.array([width / 2 - x0, height / 2 - y0])
        focal = float(pose["focal_px"]) * width / pose_hw[1]
        return Camera(_matrix(pose["quaternion"]), np.asarray(pose["translation_m"], np.float64), focal, centre)

    def to_object(self, xy: Floats, depth_m: Floats) -> Floats:
        """Source pixels n 2 at depths n -> points n 3 in the object's frame."""
        flat = (xy - self.centre_px) / self.focal_px * depth_m[:, None]
        seen = np.concatenate([flat, depth_m[:, None]], axis=1)
        return np.asarray((seen - self.translation) @ self.rotation, np.float64)

    def to_pixels(self, points: Floats) -> Floats:
        """Points n 3 in the object's frame -> source pixels n 2."""
        seen = points @ self.rotation.T + self.translation
        return np.asarray(seen[:, :2] / np.maximum(seen[:, 2:], 1e-9) * self.focal_px + self.centre_px, np.float64)

    def degrees_from(self, other: Camera) -> float:
        """Angle of the rotation between two cameras."""
        cosine = (np.trace(self.rotation @ other.rotation.T) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _matrix(quaternion: Any) -> Floats:
    """Rotation 3 3 of a quaternion w x y z of any length."""
    w, x, y, z = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def sampled_depth(
    geometry: Geometry, i: int, depth_m: npt.NDArray[np.floating], every_px: int
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """The object at every so many pixels of the view: indices (row-major, n), source pixels n 2 (x y), depths n.

    depth_m: h w of the source image, 0 where there is no object.
    """
    p = geometry.placements[i]
    grid = [np.arange(side // every_px) * every_px + every_px / 2 for side in p.view_hw]
    y, x = (grid[a] * p.scale[a] + p.offset[a] for a in (0, 1))
    rows = np.floor(y / p.source_hw[0] * depth_m.shape[0]).astype(np.int64)
    cols = np.floor(x / p.source_hw[1] * depth_m.shape[1]).astype(np.int64)
    inside = ((rows >= 0) & (rows < depth_m.shape[0]))[:, None] & ((cols >= 0) & (cols < depth_m.shape[1]))[None, :]
    rows, cols = np.clip(rows, 0, depth_m.shape[0] - 1), np.clip(cols, 0, depth_m.shape[1] - 1)
    depth = np.where(inside, depth_m[rows[:, None], cols[None, :]], 0.0).astype(np.float64)
    index = np.flatnonzero(depth > 0)
    xy = np.stack([x[index % len(x)], y[index // len(x)]], axis=1)
    return index, xy, depth.ravel()[index]
