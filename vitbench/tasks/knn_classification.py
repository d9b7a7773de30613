"""Weighted k-NN classification of images (Caron et al. 2021, arXiv 2104.14294)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.classification import KNN_CLASSIFICATION, DinoKnnSettings
from vitbench.heads.knn import Neighbours, exponential_vote, unit
from vitbench.metrics.classification import hits
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.image_features import image_features, label_count
from vitbench.tasks.units import UnitRows


@dataclass(frozen=True)
class LabelledMemory:
    """Unit features of the train images, and their labels (n,)."""

    neighbours: Neighbours
    labels: Tensor
    n_classes: int

    def votes(self, x: Tensor, k: int, temperature: float) -> Tensor:
        """Features n c (any scale) -> votes per class n m."""
        similarities, indices = self.neighbours.search(unit(x), k)
        return exponential_vote(similarities, self.labels[indices], self.n_classes, temperature)


class KnnClassification(Task[DinoKnnSettings]):
    """The k most similar train images vote with exp(cosine / temperature)."""

    card: ClassVar[TaskCard] = KNN_CLASSIFICATION

    def fit(self, train: TokenStream, context: TaskContext) -> LabelledMemory:
        features = image_features(train, self.settings.field)
        n_classes = label_count(features, context)
        return LabelledMemory(Neighbours(unit(features.x)), features.y.to(features.x.device), n_classes)

    def measure(self, head: LabelledMemory, test: TokenStream, context: TaskContext) -> Rows:
        units, features = UnitRows(), image_features(test, self.settings.field)
        votes = head.votes(features.x, self.settings.k, self.settings.temperature).double().cpu().numpy()
        for key, scores, label in zip(features.keys, votes, features.y.tolist(), strict=True):
            units.add(key, hits(scores, label))
        return units.rows()

    def flags(self, head: LabelledMemory, rows: Rows) -> Mapping[str, Any]:
        k = self.settings.k
        return {"k_cut_to": len(head.neighbours)} if k > len(head.neighbours) else {}
