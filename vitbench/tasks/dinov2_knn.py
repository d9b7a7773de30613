"""k-NN classification as DINOv2 runs it: one search, several k (Oquab et al. 2023, arXiv 2304.07193)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.classification import KNN_CLASSIFICATION
from vitbench.catalogue.tasks.image_dinov2 import Dinov2KnnSettings
from vitbench.catalogue.tasks.settings import several
from vitbench.errors import UsageError
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.knn import Neighbours, truncated_votes, unit
from vitbench.metrics.classification import hits
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.image_features import ImageFeatures, image_features, label_count
from vitbench.tasks.units import UnitRows


@dataclass
class ChosenMemory:
    """Unit features of the train images with labels (n,); `k`: the chosen one, 0 until the test split chooses."""

    neighbours: Neighbours
    labels: Tensor
    n_classes: int
    k: int = 0


class Dinov2Knn(Task[Dinov2KnnSettings]):
    """Votes of the nearest train images for several k; one k is chosen."""

    card: ClassVar[TaskCard] = KNN_CLASSIFICATION

    def __init__(self, settings: Dinov2KnnSettings) -> None:
        super().__init__(settings)
        self._ks = several(settings.k, int)
        if min(self._ks) < 1:
            raise UsageError(f"k={settings.k}", "every k is at least 1")
        if settings.n_per_class < 0:
            raise UsageError(f"n_per_class={settings.n_per_class}", "0 for all images, or how many of each class")

    def fit(self, train: TokenStream, context: TaskContext) -> ChosenMemory:
        features = image_features(train, self.settings.field)
        n_classes = label_count(features, context)
        if self.settings.n_per_class:
            features = few(features, self.settings.n_per_class, context.seed)
        x = unit(features.x)
        head = ChosenMemory(Neighbours(x), features.y.to(x.device), n_classes)
        if self.settings.choose_on == "holdout" and len(self._ks) > 1:
            chosen = holdout_keys(features.keys, self.settings.holdout)
            queries = torch.tensor([i for i, key in enumerate(features.keys) if key in chosen], device=x.device)
            similarities, indices = without_itself(*head.neighbours.search(x[queries], max(self._ks) + 1), queries)
            head.k = self._best(self._votes(head, similarities, indices), head.labels[queries])
        return head

    def _votes(self, head: ChosenMemory, similarities: Tensor, indices: Tensor) -> dict[int, Tensor]:
        return truncated_votes(similarities, head.labels[indices], head.n_classes, self.settings.temperature, self._ks)

    @staticmethod
    def _best(votes: Mapping[int, Tensor], labels: Tensor) -> int:
        """The k with most images right; the first of equals."""
        return max(votes, key=lambda k: int((votes[k].argmax(1) == labels).sum()))

    def measure(self, head: ChosenMemory, test: TokenStream, context: TaskContext) -> Rows:
        units, features = UnitRows(), image_features(test, self.settings.field)
        votes = self._votes(head, *head.neighbours.search(unit(features.x), max(self._ks)))
        head.k = head.k or self._best(votes, features.y.to(features.x.device))
        for key, scores, label in zip(
            features.keys, votes[head.k].double().cpu().numpy(), features.y.tolist(), strict=True
        ):
            units.add(key, hits(scores, label))
        return units.rows()

    def flags(self, head: ChosenMemory, rows: Rows) -> Mapping[str, Any]:
        cut = {"k_cut_to": len(head.neighbours)} if max(self._ks) > len(head.neighbours) else {}
        oracle = {"selection": "oracle"} if self.settings.choose_on == "test" and len(self._ks) > 1 else {}
        return {"k": head.k, **cut, **oracle}


def few(features: ImageFeatures, n_per_class: int, seed: int) -> ImageFeatures:
    """At most so many images of each class, drawn by a hash of seed and key, so that order does not matter."""
    places: dict[int, list[int]] = {}
    for i, label in enumerate(features.y.tolist()):
        places.setdefault(label, []).append(i)

    def drawn(i: int) -> bytes:
        return hashlib.sha256(f"{seed}/{features.keys[i]}".encode()).digest()

    kept = sorted(i for own in places.values() for i in sorted(own, key=drawn)[:n_per_class])
    return ImageFeatures(features.x[kept], features.y[kept], tuple(features.keys[i] for i in kept))


def without_itself(similarities: Tensor, indices: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Neighbours q k+1 of images of the memory (own: q) -> q k, each without the image itself (else without the last)."""
    is_own = indices == own[:, None]
    is_own[:, -1] |= ~is_own.any(1)
    kept = ~is_own
    shape = len(indices), indices.shape[1] - 1
    return similarities[kept].view(shape), indices[kept].view(shape)
