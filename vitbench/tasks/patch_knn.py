"""Few-shot k-NN of patches: the cells of a few images vote for each test cell (cf. Vanyan et al. 2024, arXiv 2401.00463)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.segmentation import KNN_SEGMENTATION
from vitbench.catalogue.tasks.segmentation_knn import LocalKnnSettings
from vitbench.errors import DataError
from vitbench.heads.knn import Neighbours, unit
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.patch_labels import batch_majority, class_count, object_classes, placed_labels
from vitbench.tasks.segmentation_rows import constant_cells, image_stats
from vitbench.tasks.units import UnitRows, group_of


@dataclass(frozen=True)
class PatchMemory:
    """Unit tokens behind a search structure and their classes m."""

    neighbours: Neighbours
    classes: Tensor
    n_classes: int
    images: int

    def votes(self, queries: Tensor, k: int) -> Tensor:
        """queries n c (any scale) -> votes of the k nearest cells, n classes."""
        indices = self.neighbours.search(unit(queries), k)[1]
        votes = torch.zeros(len(queries), self.n_classes, device=indices.device)
        return votes.scatter_add_(1, self.classes[indices], torch.ones_like(indices, dtype=votes.dtype))


def drawn(keys: tuple[str, ...], shots: int, seed: int) -> frozenset[str]:
    """The samples of `shots` images (0: all), drawn by a hash of seed and image, so that order does not matter."""
    images = sorted({group_of(key) for key in keys}, key=lambda k: hashlib.sha256(f"{seed}/{k}".encode()).digest())
    chosen = set(images[: shots or None])
    return frozenset(key for key in keys if group_of(key) in chosen)


class PatchKnnSegmentation(Task[LocalKnnSettings]):
    """Majority labels of cells; cells with a void majority stay out of memory."""

    card: ClassVar[TaskCard] = KNN_SEGMENTATION

    def fit(self, train: TokenStream, context: TaskContext) -> PatchMemory:
        if not len(train):
            raise DataError("the train split is empty", "check the data set and --limit")
        n_classes, keys = class_count(train, context), drawn(train.keys, self.settings.shots, context.seed)
        tokens, classes = [], []
        for batch in train:
            chosen = [i for i, key in enumerate(batch.tokens.keys) if key in keys]
            if not chosen:
                continue
            x = batch.tokens[self.settings.field]
            majority = torch.from_numpy(batch_majority(batch, n_classes, context.dataset.ignore_index)).to(x.device)
            labels = majority[chosen].flatten()
            tokens.append(unit(x[chosen].flatten(0, 2)[labels >= 0]))
            classes.append(labels[labels >= 0])
        memory = torch.cat(tokens)
        if not len(memory):
            raise DataError("no pixel of the train split has a class", "check the masks")
        return PatchMemory(Neighbours(memory), torch.cat(classes), n_classes, len({group_of(k) for k in keys}))

    def measure(self, head: PatchMemory, test: TokenStream, context: TaskContext) -> Rows:
        units, ignore = UnitRows(), context.dataset.ignore_index
        for batch in test:
            x, geometry = batch.tokens[self.settings.field], batch.tokens.geometry
            votes = head.votes(x.flatten(0, 2), self.settings.k).reshape(*x.shape[:3], -1)
            for i, key in enumerate(batch.tokens.keys):
                label = placed_labels(geometry, i, batch.targets[i]["segmentation"], ignore)
                predicted = constant_cells(votes[i].argmax(-1), geometry.patch_px)
                units.add(key, image_stats(batch, i, predicted, label, votes[i], context))
        return units.rows({"object_classes": object_classes(context), "ignore_index": ignore})

    def flags(self, head: PatchMemory, rows: Rows) -> Mapping[str, Any]:
        return {"memory_tokens": len(head.neighbours), "memory_images": head.images}
