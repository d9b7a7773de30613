"""k-NN of pixels over class centroids of train images (Table 5 of Yang et al. 2024, arXiv 2401.02957).

Bilinear upsampling is linear: centroids come from the mask carried down to the grid, and a pixel's similarities are the
upsampled similarities of the tokens. No feature is ever upsampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.segmentation import KNN_SEGMENTATION
from vitbench.catalogue.tasks.segmentation_knn import CentroidKnnSettings
from vitbench.errors import DataError
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.patch_labels import class_count, largest_label, object_classes
from vitbench.tasks.segmentation_rows import image_stats
from vitbench.tasks.units import UnitRows
from vitbench.tasks.upsample import LabelSampler


@dataclass(frozen=True)
class Centroids:
    """Centroids m c, their classes m, and what is subtracted from q.m so that the largest is the nearest."""

    tokens: Tensor
    classes: Tensor
    half_square: Tensor
    n_classes: int

    @staticmethod
    def of(tokens: Tensor, classes: Tensor, n_classes: int, distance: str) -> Centroids:
        if distance == "cosine":  # a pixel's own length does not change its ranking
            tokens = torch.nn.functional.normalize(tokens, dim=-1)
            return Centroids(tokens, classes, tokens.new_zeros(len(tokens)), n_classes)
        return Centroids(tokens, classes, 0.5 * (tokens * tokens).sum(1), n_classes)

    def vote(self, similarities: Tensor, k: int) -> Tensor:
        """similarities pixels m -> votes of the k nearest, pixels classes."""
        nearest = similarities.topk(min(k, similarities.shape[1]), dim=1, sorted=False).indices
        votes = torch.zeros(len(similarities), self.n_classes, device=similarities.device)
        return votes.scatter_add_(1, self.classes[nearest], torch.ones_like(nearest, dtype=votes.dtype))

    def pixels(self, similarities: Tensor, k: int) -> Tensor:
        """similarities m rows cols -> classes rows cols."""
        return self.vote(similarities.flatten(1).T.contiguous(), k).argmax(-1).reshape(similarities.shape[1:])


class CentroidSegmentation(Task[CentroidKnnSettings]):
    """Memory of class centroids per train image; every pixel takes the majority of its nearest."""

    card: ClassVar[TaskCard] = KNN_SEGMENTATION

    def fit(self, train: TokenStream, context: TaskContext) -> Centroids:
        if not len(train):
            raise DataError("the train split is empty", "check the data set and --limit")
        n_classes = class_count(train, context)
        tokens, classes = [], []
        for batch in train:
            x = batch.tokens[self.settings.field]
            for i in range(len(batch.targets)):
                found, centroids = self._centroids(batch, i, x[i], n_classes, context)
                tokens.append(centroids)
                classes.append(found)
        memory = torch.cat(tokens)
        if not len(memory):
            raise DataError("no pixel of the train split has a class", "check the masks")
        return Centroids.of(memory, torch.cat(classes), n_classes, self.settings.distance)

    @staticmethod
    def _centroids(batch: Batch, i: int, x: Tensor, n_classes: int, context: TaskContext) -> tuple[Tensor, Tensor]:
        """Classes of image i (m) and the mean of upsampled features under each (m c); x h w c."""
        label, ignore = np.asarray(batch.targets[i]["segmentation"]), context.dataset.ignore_index
        if largest_label(label, ignore) >= n_classes:
            raise DataError(
                f"image {batch.tokens.keys[i]!r}: label {largest_label(label, ignore)} is outside the {n_classes} classes",
                "name all classes of the data set",
            )
        sampler = LabelSampler(batch.tokens.geometry, i, (label.shape[0], label.shape[1]), x.device)
        shown = torch.from_numpy(label[sampler.rows, sampler.cols].astype(np.int64)).to(x.device)
        classes = [int(c) for c in np.unique(label[sampler.rows, sampler.cols]) if c != ignore]
        found = torch.tensor(classes, dtype=torch.int64, device=x.device)
        masks = (shown == found[:, None, None]).float()
        weights = sampler.carried_down(masks)  # m h w
        total = torch.einsum("mhw,hwc->mc", weights, x)
        return found, total / weights.sum((1, 2)).clamp_min(1e-12)[:, None]

    def measure(self, head: Centroids, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        for batch in test:
            x = batch.tokens[self.settings.field]
            for i, key in enumerate(batch.tokens.keys):
                label = np.asarray(batch.targets[i]["segmentation"])
                sampler = LabelSampler(batch.tokens.geometry, i, (label.shape[0], label.shape[1]), x.device)
                similarity = x[i] @ head.tokens.T - head.half_square
                scores = head.vote(similarity.flatten(0, 1), self.settings.k).reshape(*similarity.shape[:2], -1)
                predicted = sampler.strips(similarity, lambda s: head.pixels(s, self.settings.k))
                stats = image_stats(batch, i, predicted, label[sampler.rows, sampler.cols], scores, context)
                units.add(key, stats)
        return units.rows({"object_classes": object_classes(context), "ignore_index": context.dataset.ignore_index})

    def flags(self, head: Centroids, rows: Rows) -> Mapping[str, Any]:
        return {"memory_centroids": len(head.tokens)}
