"""Correspondence between views of one object with known depth and pose (NAVI as in probe3d: El Banani et al. 2024).

A unit is a pair, its group the object. Tokens of one object are held at a time.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.correspondence import VIEW_CORRESPONDENCE, ViewSettings
from vitbench.errors import DataError
from vitbench.metrics.matches3d import match_statistics
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.object_views import Camera, sampled_depth
from vitbench.tasks.units import UnitRows
from vitbench.tokens.geometry import Geometry

_BLOCK = 1 << 24  # similarities held at once


@dataclass(frozen=True)
class _View:
    """One image: where its object is in space and in the image, and the tokens it is described by."""

    key: str
    camera: Camera
    tokens: Tensor  # h w c
    index: npt.NDArray[np.int64]
    grid_hw: tuple[int, int]
    points: npt.NDArray[np.float64]  # n 3, object's frame, metres
    xy: npt.NDArray[np.float64]  # n 2, source pixels
    px_per_source: float

    def described(self) -> Tensor:
        """Unit descriptors n c, tokens upsampled bicubically."""
        planes = torch.nn.functional.interpolate(
            self.tokens.permute(2, 0, 1)[None], size=self.grid_hw, mode="bicubic", align_corners=False
        )[0]
        index = torch.from_numpy(self.index).to(planes.device)
        return torch.nn.functional.normalize(planes.flatten(1)[:, index].T, dim=-1)


def object_of(key: str) -> str:
    """The object that an image shows: the first part of its key."""
    return key.partition("/")[0]


class ViewCorrespondence(Task[ViewSettings]):
    """No fit. Every so manieth image is compared with another one of the same object, drawn by its key."""

    card: ClassVar[TaskCard] = VIEW_CORRESPONDENCE

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        if not len(test):
            raise DataError("the split to measure on is empty", "check the data set and --limit")
        left = Counter(object_of(key) for key in test.keys)
        sources = frozenset(test.keys[:: self.settings.every])
        views: dict[str, list[_View]] = {}
        units = UnitRows()
        for batch in test:
            for i, key in enumerate(batch.tokens.keys):
                name = object_of(key)
                views.setdefault(name, []).append(self._view(batch, i))
                left[name] -= 1
                if not left[name]:
                    self._object(units, name, views.pop(name), sources)
        if not len(units):
            raise DataError("no object has two images that can be compared", "check the data set and --limit")
        return units.rows()

    def _view(self, batch: Batch, i: int) -> _View:
        geometry, target = batch.tokens.geometry, batch.targets[i]
        p = geometry.placements[i]
        if "pose_hw" not in target:
            raise DataError(
                f"image {batch.tokens.keys[i]!r}: a pose without the size it is for", "the data need pose_hw"
            )
        camera = Camera.of(target["pose"], tuple(target["pose_hw"]), p.source_hw)
        index, xy, depth = sampled_depth(geometry, i, np.asarray(target["depth"]), self.settings.every_px)
        grid = p.view_hw[0] // self.settings.every_px, p.view_hw[1] // self.settings.every_px
        tokens = batch.tokens[self.settings.field][i]
        return _View(
            batch.tokens.keys[i], camera, tokens, index, grid, camera.to_object(xy, depth), xy, 1 / _scale(geometry, i)
        )

    def _object(self, units: UnitRows, name: str, views: Sequence[_View], sources: frozenset[str]) -> None:
        for view in views:
            near = [
                other for other in views
                if other.key != view.key and view.camera.degrees_from(other.camera) <= self.settings.most_degrees
            ]  # fmt: skip
            if view.key in sources and near and len(view.index):
                partner = near[_draw(view.key, self.settings.draw, len(near))]
                errors = self._errors(view, partner)
                units.add(
                    f"{name}#{view.key}~{partner.key}",
                    match_statistics(*errors, view.camera.degrees_from(partner.camera)),
                )

    def _errors(self, view: _View, partner: _View) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Errors of the best matches, in metres of the object and in pixels of the view."""
        if not len(partner.index):
            return np.zeros(0), np.zeros(0)
        rank, found = nearest(view.described(), partner.described(), self.settings.ratio_test)
        kept = rank.topk(min(self.settings.matches, len(rank))).indices.cpu().numpy()
        found_at = found.cpu().numpy()[kept]
        in_space = np.linalg.norm(view.points[kept] - partner.points[found_at], axis=1)
        expected = partner.camera.to_pixels(view.points[kept])
        in_image = np.linalg.norm(expected - partner.xy[found_at], axis=1) * partner.px_per_source
        return in_space, in_image


def _scale(geometry: Geometry, i: int) -> float:
    """Source pixels per view pixel (mean of both axes)."""
    return sum(geometry.placements[i].scale) / 2


def _draw(key: str, seed: int, count: int) -> int:
    """A number below `count` that depends on the key and the seed alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:8], "big") % count


def nearest(queries: Tensor, others: Tensor, ratio_test: bool) -> tuple[Tensor, Tensor]:
    """Unit vectors n c and m c -> how sure each match is (n), and which of m it is (n).

    Sure: one less the ratio of the nearest to the second nearest cosine distance, or the cosine itself.
    """
    sure, index = [], []
    step = max(_BLOCK // len(others), 1)
    for start in range(0, len(queries), step):
        top = (queries[start : start + step] @ others.T).topk(min(2, len(others)), dim=1)
        first, second = top.values[:, 0], top.values[:, -1]
        away = (1 - first).clamp(min=0)
        sure.append(1 - away / (1 - second).clamp(min=1e-12) if ratio_test else first)
        index.append(top.indices[:, 0])
    return torch.cat(sure), torch.cat(index)
