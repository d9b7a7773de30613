"""Instance retrieval: the same object under blur, noise and zoom, in later frames, or in the next one (Vanyan et al. 2024,
arXiv 2401.00463).

A unit is a query object, its group the video. Only descriptors are held: those of the gallery, or of each video's last frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.retrieval import INSTANCE_RETRIEVAL, InstanceSettings
from vitbench.errors import DataError
from vitbench.metrics.instances import query_statistics
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.label_propagation import video_of
from vitbench.tasks.units import UnitRows
from vitbench.tokens.geometry import Geometry

Objects = dict[tuple[str, int], int]  # (video, object) -> row of the gallery


@dataclass
class _Gallery:
    """Unit descriptors n c, and which object each is."""

    vectors: Tensor
    objects: Objects


class InstanceRetrieval(Task[InstanceSettings]):
    """No fit. `boxes_track` numbers the objects of a video."""

    card: ClassVar[TaskCard] = INSTANCE_RETRIEVAL

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        if not len(test):
            raise DataError("the split to measure on is empty", "check the data set and --limit")
        units = UnitRows()
        unknown = self._against_first(units, test) if self.settings.gallery == "first" else self._along(units, test)
        if not len(units):
            raise DataError("no object is seen in two samples of a video", "check the data set and --limit")
        return units.rows({"objects_unknown": unknown})

    def _against_first(self, units: UnitRows, test: TokenStream) -> int:
        gallery, first = self._first_samples(test), first_keys(test.keys)
        unknown = 0
        for batch in test:
            for i, key in enumerate(batch.tokens.keys):
                if key not in first:
                    unknown += self._query(units, batch, i, gallery)
        return unknown

    def _first_samples(self, test: TokenStream) -> _Gallery:
        first = first_keys(test.keys)
        vectors, objects = [], Objects()
        for batch in test:
            for i, key in enumerate(batch.tokens.keys):
                if key in first:
                    found, tracks = self._objects(batch, i)
                    for track in tracks:
                        objects[(video_of(key), track)] = len(objects)
                    vectors.append(found)
        return _Gallery(torch.cat(vectors), objects)

    def _along(self, units: UnitRows, test: TokenStream) -> int:
        unknown, before = 0, dict[str, _Gallery]()
        for batch in test:
            for i, key in enumerate(batch.tokens.keys):
                video = video_of(key)
                if video in before and before[video].objects:
                    unknown += self._query(units, batch, i, before[video])
                found, tracks = self._objects(batch, i)
                before[video] = _Gallery(found, {(video, track): n for n, track in enumerate(tracks)})
        return unknown

    def _query(self, units: UnitRows, batch: Batch, i: int, gallery: _Gallery) -> int:
        """Rows of the objects of a sample; how many the gallery does not know."""
        key, frames = batch.tokens.keys[i], batch.targets[i]["frames"]
        vectors, tracks = self._objects(batch, i)
        similar = (vectors @ gallery.vectors.T).cpu().numpy()
        far = 2 * int(frames["index"]) > int(frames["count"]) - 1
        unknown = 0
        for row, track in zip(similar, tracks, strict=True):
            right = gallery.objects.get((video_of(key), track))
            unknown += right is None
            if right is not None:
                units.add(f"{video_of(key)}#{key.rpartition('/')[2]}-{track}", query_statistics(row, right, far))
        return unknown

    def _objects(self, batch: Batch, i: int) -> tuple[Tensor, list[int]]:
        """Unit descriptors n c of the objects of a sample, and their numbers; boxes that show no cell are left out."""
        target, grid = batch.targets[i], batch.tokens[self.settings.field][i]
        boxes = np.asarray(target["boxes"], np.float32).reshape(-1, 4)
        if "boxes_track" not in target or len(target["boxes_track"]) != len(boxes):
            raise DataError(f"sample {batch.tokens.keys[i]!r}: boxes without numbers", "the data need boxes_track")
        shares = cell_shares(batch.tokens.geometry, i, boxes)
        kept = [n for n in range(len(boxes)) if shares[n].any()]
        weights = torch.from_numpy(shares[kept]).to(grid.device).flatten(1)
        vectors = torch.nn.functional.normalize(weights @ grid.flatten(0, 1), dim=-1)
        return vectors, [int(target["boxes_track"][n]) for n in kept]

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        return {"queries": len(rows), "objects_unknown": rows.info["objects_unknown"]}


def first_keys(keys: tuple[str, ...]) -> frozenset[str]:
    """The first sample of every video."""
    first: dict[str, str] = {}
    for key in keys:
        first.setdefault(video_of(key), key)
    return frozenset(first.values())


def cell_shares(geometry: Geometry, i: int, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Share of every cell of image i that lies in each box (n 4, source pixels): n h w."""
    corners = geometry.to_cells(i, boxes.reshape(-1, 2)).reshape(-1, 2, 2)
    low, high = corners.min(1), corners.max(1)
    inside = [
        np.clip(np.minimum(high[:, a, None], np.arange(n) + 1) - np.maximum(low[:, a, None], np.arange(n)), 0, 1)
        for a, n in ((1, geometry.grid_hw[0]), (0, geometry.grid_hw[1]))
    ]
    return np.asarray(inside[0][:, :, None] * inside[1][:, None, :], np.float32)
