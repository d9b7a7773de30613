"""Attention as segmentation as DINO measures it: patches that hold most of a head's attention (Caron et al. 2021, 2104.14294)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.attention import ATTENTION_SEGMENTATION, AttentionMassSettings
from vitbench.errors import NotApplicableError
from vitbench.metrics.attention_masks import COUNTS, mask_statistics
from vitbench.records.rows import Rows
from vitbench.tasks.attention_segmentation import AttentionSegmentation
from vitbench.tasks.base import Batch, TaskContext, TokenStream
from vitbench.tasks.saliency import object_mask
from vitbench.tasks.units import UnitRows
from vitbench.tokens.geometry import Geometry

Floats = npt.NDArray[np.float64]


def mass_thresholds(weights: Floats, mass: float) -> Floats:
    """Weights k n of patches by head -> k: just below the smallest weight of the patches that are kept.

    From the smallest on, patches are left out while together they hold no more than 1 - mass of the head's attention; equal
    weights stay together.
    """
    rising = np.sort(weights, axis=1)
    held = rising.cumsum(1) / np.maximum(rising.sum(1, keepdims=True), np.finfo(np.float64).tiny)
    first = (held > 1 - mass).argmax(1)
    return np.asarray(np.nextafter(rising[np.arange(len(rising)), first], -np.inf))


def shown_cells(geometry: Geometry, i: int, label_hw: tuple[int, int]) -> tuple[npt.NDArray[np.int64], ...]:
    """Row and column of the cell that every label pixel lies in, as vectors; -1 where the view does not show it."""
    source_hw, out = geometry.placements[i].source_hw, []
    for axis, cells in enumerate(geometry.grid_hw):
        points = np.zeros((label_hw[axis], 2))
        points[:, 1 - axis] = (np.arange(label_hw[axis]) + 0.5) * source_hw[axis] / label_hw[axis]
        found = np.floor(geometry.to_cells(i, points)[:, 1 - axis]).astype(np.int64)
        out.append(np.where((found >= 0) & (found < cells), found, -1))
    return tuple(out)


class AttentionMass(AttentionSegmentation):
    """No fit. Every head gives a mask of whole patches; the one that fits the object best stands for the image."""

    card: ClassVar[TaskCard] = ATTENTION_SEGMENTATION

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        assert isinstance(self.settings, AttentionMassSettings)
        units, heads = UnitRows(), 0
        for batch in test:
            found = batch.tokens[self.settings.field]
            heads = found.shape[1]
            if not heads:
                raise NotApplicableError("this backbone's attention cannot be read", "use a ViT loaded through timm")
            weights = found.double().cpu().numpy() * batch.tokens.geometry.valid()[:, None]
            for i, key in enumerate(batch.tokens.keys):
                units.add(key, _best_head(batch, i, weights[i], self.settings.mass, context))
        return units.rows({"maps": 1, "heads": heads})

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        return {**super().flags(head, rows), "selection": "oracle"}


def _best_head(batch: Batch, i: int, weights: Floats, mass: float, context: TaskContext) -> dict[str, npt.ArrayLike]:
    """Statistics of image i for the head (weights a h w) whose mask has the largest IoU with the object, and that IoU."""
    labels = np.asarray(batch.targets[i]["segmentation"])
    rows, columns = shown_cells(batch.tokens.geometry, i, (labels.shape[0], labels.shape[1]))
    counted = (labels != context.dataset.ignore_index) & (rows >= 0)[:, None] & (columns >= 0)[None]
    scores = weights[:, rows[:, None], columns[None]][:, counted]
    truth = object_mask(labels, context.dataset)[counted]
    stats = mask_statistics(scores, truth, mass_thresholds(weights.reshape(len(weights), -1), mass))
    hits, wrong = np.asarray(stats["tp"]), np.add(stats["fp"], stats["fn"])
    iou = hits / np.maximum(hits + wrong, 1)
    best = int(iou.argmax())
    return {**stats, **{name: np.asarray(stats[name])[best : best + 1] for name in COUNTS}, "iou": float(iou[best])}
