"""Landmark retrieval on Revisited Oxford and Paris (Radenovic et al. 2018, arXiv 1803.11285): one vector per image, cosine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.retrieval import RETRIEVAL, LandmarkSettings
from vitbench.errors import DataError
from vitbench.heads.knn import unit
from vitbench.metrics.retrieval import query_statistics
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.units import UnitRows


@dataclass(frozen=True)
class Collection:
    """Unit vectors n c of the database, and its keys."""

    vectors: Tensor
    keys: tuple[str, ...]


class Retrieval(Task[LandmarkSettings]):
    """The train split is the collection, the val split are the queries."""

    card: ClassVar[TaskCard] = RETRIEVAL

    def fit(self, train: TokenStream, context: TaskContext) -> Collection:
        vectors = [self._vectors(batch.tokens[self.settings.field]) for batch in train]
        if not vectors:
            raise DataError("the collection is empty", "check the data set and --limit")
        return Collection(torch.cat(vectors), train.keys)

    def measure(self, head: Collection, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        for batch in test:
            similar = self._vectors(batch.tokens[self.settings.field]) @ head.vectors.T
            order = similar.argsort(dim=1, descending=True, stable=True).cpu().numpy()
            for key, ranks, target in zip(batch.tokens.keys, order, batch.targets, strict=True):
                units.add(key, query_statistics([head.keys[r] for r in ranks], target["relevance"]))
        return units.rows({"collection": len(head.keys)})

    @staticmethod
    def _vectors(x: Tensor) -> Tensor:
        return unit(x.mean((1, 2)) if x.ndim == 4 else x)

    def flags(self, head: Collection, rows: Rows) -> Mapping[str, Any]:
        without = len(rows) - int(rows.stats["n_M"].sum())
        return {"collection": len(head.keys), "queries_without_right_image": without}
