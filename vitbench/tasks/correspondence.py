"""Keypoint correspondence by nearest token (SPair-71k: Min et al. 2019, arXiv 1908.10543; probe3d: El Banani et al. 2024).

A unit is a pair; its group is the source image (in clips: the clip, whose first frame is the source). Tokens are read twice:
once for the descriptors of source points, once for the grids in which they are looked for; only descriptors are held.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.correspondence import CORRESPONDENCE, KeypointSettings
from vitbench.errors import DataError
from vitbench.metrics.keypoints import VIEWPOINTS, larger_side, pair_statistics
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.units import UnitRows
from vitbench.tokens.geometry import Geometry

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """Points of a source image that are looked for in a target; descriptors p c, one set per field."""

    unit: str
    target: str
    descriptors: tuple[Tensor, ...]
    relative_xy: Floats  # p 2, of the source image's width and height
    target_xy: Floats  # p 2, pixels
    side_px: float
    label: int
    in_all: bool = True
    viewpoint: int | None = None


class Correspondence(Task[KeypointSettings]):
    """No fit. `keypoints` lists the pairs in which an image is the source."""

    card: ClassVar[TaskCard] = CORRESPONDENCE

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        if not len(test):
            raise DataError("the split to measure on is empty", "check the data set and --limit")
        by_target, left_out = self._sources(test)
        if not by_target:
            raise DataError("no image starts a pair whose target is there", "check the data set and --limit")
        units = UnitRows()
        for batch in test:
            for i, key in enumerate(batch.tokens.keys):
                if key in by_target:
                    self._match(units, batch, i, by_target[key])
        return units.rows({"features": len(self._fields), "pairs_left_out": left_out})

    @property
    def _fields(self) -> tuple[str, ...]:
        s = self.settings
        return (s.field, s.also) if s.also else (s.field,)

    def _sources(self, test: TokenStream) -> tuple[dict[str, list[Pair]], int]:
        """Pairs by target, and how many were left out for want of theirs."""
        known, left_out = set(test.keys), 0
        by_target: dict[str, list[Pair]] = defaultdict(list)
        sampled = self._sampled(test)
        for batch in test:
            for i, target in enumerate(batch.targets):
                for entry in target["keypoints"] or ():
                    if entry["target"] not in known:
                        left_out += 1
                    elif len(entry["source_xy"]) and (sampled is None or entry["pair"] in sampled):
                        in_all, viewpoint = sampled[entry["pair"]] if sampled is not None else (True, _viewpoint(entry))
                        pair = self._pair(batch, i, entry, in_all, viewpoint)
                        by_target[pair.target].append(pair)
        return dict(by_target), left_out

    def _sampled(self, test: TokenStream) -> dict[str, tuple[bool, int | None]] | None:
        """pair -> whether it is among those of its class, and the viewpoint among whose pairs it is; None: all are taken."""
        if not self.settings.sample_pairs:
            return None
        found = [
            (_label(entry, target), _viewpoint(entry), str(entry["pair"]))
            for batch in test
            for target in batch.targets
            for entry in target["keypoints"] or ()
        ]
        return sample_pairs(found, self.settings.sample_pairs)

    def _pair(self, batch: Batch, i: int, entry: Mapping[str, Any], in_all: bool, viewpoint: int | None) -> Pair:
        geometry, key = batch.tokens.geometry, batch.tokens.keys[i]
        xy = np.asarray(entry["source_xy"], np.float32).reshape(-1, 2)
        grids = [batch.tokens[name][i] for name in self._fields]
        height, width = geometry.placements[i].source_hw
        return Pair(
            unit=f"{key}#{entry['pair']}",
            target=entry["target"],
            descriptors=tuple(_unit(described(g, geometry, i, xy, self.settings)) for g in grids),
            relative_xy=np.asarray(xy / [width, height], np.float32),
            target_xy=np.asarray(entry["target_xy"], np.float32).reshape(-1, 2),
            side_px=max(larger_side(np.asarray(entry["target_box"], np.float64)), 1e-6),
            label=_label(entry, batch.targets[i]),
            in_all=in_all,
            viewpoint=viewpoint,
        )

    def _match(self, units: UnitRows, batch: Batch, i: int, pairs: Sequence[Pair]) -> None:
        geometry = batch.tokens.geometry
        matches = [
            matched(torch.cat([p.descriptors[n] for p in pairs]), batch.tokens[name][i], geometry, i, self.settings)
            for n, name in enumerate(self._fields)
        ]
        height, width = geometry.placements[i].source_hw
        start = 0
        for pair in pairs:
            part = slice(start, start + len(pair.target_xy))
            start = part.stop
            side_px = pair.side_px if self.settings.scale == "box" else float(max(height, width))
            errors = np.stack([np.linalg.norm(m[part] - pair.target_xy, axis=1) for m in matches]) / side_px
            stayed = pair.relative_xy * np.array([width, height], np.float32)
            same = np.linalg.norm(stayed - pair.target_xy, axis=1) / side_px
            units.add(pair.unit, pair_statistics(errors, same, pair.label, pair.in_all, pair.viewpoint))

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        return {"pairs": len(rows), "pairs_left_out": rows.info["pairs_left_out"]}


def _unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=-1)


def _label(entry: Mapping[str, Any], target: Mapping[str, Any]) -> int:
    """The class of a pair: its own, else that of its source image."""
    return int(entry.get("label", target["label"]))


def _viewpoint(entry: Mapping[str, Any]) -> int | None:
    value = entry.get("viewpoint_variation")
    return None if value is None else int(value)


def sample_pairs(pairs: Sequence[tuple[int, int | None, str]], count: int) -> dict[str, tuple[bool, int | None]]:
    """(label, viewpoint, name) -> the names chosen: the first `count` by hash of each class, and of each class and viewpoint."""
    chosen: dict[str, tuple[bool, int | None]] = {}
    ranked = sorted(pairs, key=lambda p: hashlib.sha256(p[2].encode()).digest())
    taken: dict[tuple[int, int | None], int] = defaultdict(int)
    for label, viewpoint, name in ranked:
        in_all = taken[(label, None)] < count
        in_view = viewpoint in VIEWPOINTS and taken[(label, viewpoint)] < count
        taken[(label, None)] += in_all
        if in_view:
            taken[(label, viewpoint)] += 1
        if in_all or in_view:
            chosen[name] = in_all, viewpoint if in_view else None
    return chosen


def described(grid: Tensor, geometry: Geometry, i: int, xy: Floats, settings: KeypointSettings) -> Tensor:
    """Tokens h w c of image i read bilinearly at source points p 2 (x y) -> p c."""
    size = torch.tensor([grid.shape[1], grid.shape[0]], dtype=torch.float32)
    geometry = _unpadded(geometry) if settings.unmoved else geometry
    cells = torch.from_numpy(geometry.to_cells(i, xy))
    where = (2 * cells / size - 1).to(grid.device)
    read = torch.nn.functional.grid_sample(
        grid.permute(2, 0, 1)[None], where[None, None], align_corners=settings.corners, padding_mode="border"
    )
    return read[0, :, 0].T


def matched(points: Tensor, grid: Tensor, geometry: Geometry, i: int, settings: KeypointSettings) -> Floats:
    """Where unit descriptors p c are most similar to the tokens h w c of image i: p 2 (x y) in source pixels."""
    width = grid.shape[1]
    similar = points @ _unit(grid).flatten(0, 1).T
    shown = torch.from_numpy(geometry.valid()[i]).flatten().to(grid.device)
    best = similar.masked_fill(~shown, -torch.inf).argmax(1).cpu().numpy()
    cells = np.stack([best % width, best // width], axis=1) + (0.0 if settings.corners else 0.5)
    return (_unpadded(geometry) if settings.unmoved else geometry).from_cells(i, cells)


def _unpadded(geometry: Geometry) -> Geometry:
    """Where the views' cells would lie if the image filled all of the view."""
    filled = tuple(
        replace(p, content_hw=p.view_hw, content_at=(0, 0), offset=(0.0, 0.0),
                scale=(p.scale[0] * p.content_hw[0] / p.view_hw[0], p.scale[1] * p.content_hw[1] / p.view_hw[1]))
        for p in geometry.placements
    )  # fmt: skip
    return replace(geometry, placements=filled)
