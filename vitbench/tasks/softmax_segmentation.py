"""Linear segmentation by multinomial logistic regression: soft patch labels, or the majority labels of the CAPI protocol.

The latter after Darcet et al. 2025 (arXiv 2502.08769).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.segmentation import LINEAR_SEGMENTATION
from vitbench.catalogue.tasks.segmentation_linear import SoftmaxSettings
from vitbench.errors import DataError
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.ridge import LinearHead, log_grid
from vitbench.heads.softmax import fit_softmax
from vitbench.metrics.segmentation import class_counts, class_iou
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.patch_labels import batch_majority, batch_soft_labels, class_count, object_classes, placed_labels
from vitbench.tasks.segmentation_rows import constant_cells, image_confusion, image_stats
from vitbench.tasks.token_rows import ChannelScale, TokenRows
from vitbench.tasks.units import UnitRows
from vitbench.tasks.upsample import LabelSampler


@dataclass(frozen=True)
class SoftmaxHead:
    """Class scores of standardised tokens, and how the head was chosen."""

    scale: ChannelScale
    head: LinearHead
    chosen_c: float
    miou: Mapping[float, float]  # on the held-out images, by C
    unconverged: int

    def __call__(self, tokens: Tensor) -> Tensor:
        """b h w c -> scores b h w k."""
        return self.head(self.scale(tokens))


class LogregSegmentation(Task[SoftmaxSettings]):
    """Soft patch labels; scores upsampled and measured at label resolution."""

    card: ClassVar[TaskCard] = LINEAR_SEGMENTATION
    scaled_on_held: ClassVar[bool] = True  # the scale is that of all train images, not of those left when some choose C

    def fit(self, train: TokenStream, context: TaskContext) -> SoftmaxHead:
        s = self.settings
        if not len(train):
            raise DataError("the train split is empty", "check the data set and --limit")
        n_classes = class_count(train, context)
        held = holdout_keys(train.keys, s.holdout)
        grid = sorted(log_grid(s.c_low, s.c_high, s.c_steps))
        left = held if len(grid) > 1 and not self.scaled_on_held else frozenset[str]()
        scale = ChannelScale.fit(train, s.field, frozenset(train.keys) - left)

        def rows(keys: frozenset[str]) -> TokenRows:
            return TokenRows(train, s.field, scale, lambda batch: self._labels(batch, n_classes, context), keys)

        unconverged, miou, best, start = 0, {}, grid[0], None
        if len(grid) > 1:
            part = fit_softmax(rows(frozenset(train.keys) - held), n_classes, grid, s.max_iter, s.tolerance)
            unconverged = part.unconverged
            miou = dict(zip(grid, self._held_out(train, held, scale, part.heads, context), strict=True))
            best = max(grid, key=lambda c: miou[c])
            start = part.heads[grid.index(best)]
        fit = fit_softmax(rows(frozenset(train.keys)), n_classes, [best], s.max_iter, s.tolerance, start)
        return SoftmaxHead(scale, fit.heads[0], best, miou, unconverged + fit.unconverged)

    def _held_out(
        self, train: TokenStream, held: frozenset[str], scale: ChannelScale, heads: tuple[LinearHead, ...],
        context: TaskContext,
    ) -> list[float]:  # fmt: skip
        """mIoU of every head on the held-out images, scored as the test images are."""
        sums: list[Any] = [0] * len(heads)
        for batch in train:
            chosen = [i for i, key in enumerate(batch.tokens.keys) if key in held]
            x = scale(batch.tokens[self.settings.field][chosen]) if chosen else None
            for j, head in enumerate(heads):
                for i, scores in zip(chosen, head(x) if x is not None else [], strict=True):
                    sums[j] = sums[j] + self._confusion(batch, i, scores, context)
        return [float(np.nanmean(class_iou(class_counts(m)))) for m in sums]

    def _labels(self, batch: Batch, n_classes: int, context: TaskContext) -> tuple[Tensor, Tensor]:
        labels, share = batch_soft_labels(batch, n_classes, context.dataset.ignore_index)
        device = batch.tokens[self.settings.field].device
        return torch.from_numpy(labels).to(device), torch.from_numpy(share).to(device)

    def _shown(self, batch: Batch, i: int, scores: Tensor, context: TaskContext) -> tuple[Any, Any]:
        """Predicted and true classes of the same pixels of image i; scores h w k."""
        label = np.asarray(batch.targets[i]["segmentation"])
        sampler = LabelSampler(batch.tokens.geometry, i, (label.shape[0], label.shape[1]), scores.device)
        return sampler.classes(scores), label[sampler.rows, sampler.cols]

    def _confusion(self, batch: Batch, i: int, scores: Tensor, context: TaskContext) -> Any:
        return image_confusion(batch.tokens.keys[i], *self._shown(batch, i, scores, context), scores.shape[-1], context)

    def measure(self, head: SoftmaxHead, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        for batch in test:
            scores = head(batch.tokens[self.settings.field])
            for i, key in enumerate(batch.tokens.keys):
                shown = self._shown(batch, i, scores[i], context)
                units.add(key, image_stats(batch, i, *shown, scores[i], context))
        return units.rows({"object_classes": object_classes(context), "ignore_index": context.dataset.ignore_index})

    def flags(self, head: SoftmaxHead, rows: Rows) -> Mapping[str, Any]:
        return {"C": head.chosen_c, **({"unconverged_fits": head.unconverged} if head.unconverged else {})}


class CapiSegmentation(LogregSegmentation):
    """Majority labels; one class for all pixels of a cell, scored at the size of the view."""

    scaled_on_held = False

    def _labels(self, batch: Batch, n_classes: int, context: TaskContext) -> tuple[Tensor, Tensor]:
        majority = torch.from_numpy(batch_majority(batch, n_classes, context.dataset.ignore_index))
        device = batch.tokens[self.settings.field].device
        one_hot = torch.nn.functional.one_hot(majority.clamp_min(0), n_classes).float()
        return one_hot.to(device), (majority >= 0).float().to(device)

    def _shown(self, batch: Batch, i: int, scores: Tensor, context: TaskContext) -> tuple[Any, Any]:
        geometry = batch.tokens.geometry
        label = placed_labels(geometry, i, batch.targets[i]["segmentation"], context.dataset.ignore_index)
        return constant_cells(scores.argmax(-1), geometry.patch_px), label
