"""Position leakage: how much of a token is its place in the grid (after Yang et al. 2024, arXiv 2401.02957)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard, TaskSettings
from vitbench.catalogue.tasks.diagnostics import POSITION_LEAKAGE
from vitbench.errors import DataError, UsageError
from vitbench.metrics.leakage import PARTS
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.units import UnitRows


@dataclass(frozen=True)
class PositionMeans:
    """Mean token of every position, row and column of the train images, each broadcast to h w c in float64; their mean c.

    `tokens`: how many train tokens each of those means is of.
    """

    mean: Tensor
    parts: dict[str, Tensor]
    tokens: dict[str, int]


class PositionLeakage(Task[TaskSettings]):
    """Means are fitted on train and predict the tokens of val: chance cannot explain anything there."""

    card: ClassVar[TaskCard] = POSITION_LEAKAGE

    def fit(self, train: TokenStream, context: TaskContext) -> PositionMeans:
        total, images = torch.zeros(0), 0
        for batch in train:
            x = batch.tokens[self.settings.field]
            if not images:
                total = torch.zeros(x.shape[1:], dtype=torch.float64, device=x.device)
            _one_grid(batch, total)
            total += x.sum(0, dtype=torch.float64)
            images += len(x)
        if not images:
            raise DataError("the train split is empty", "check the data set and --limit")
        means = total / images
        h, w = means.shape[:2]
        parts = (means, means.mean(1, keepdim=True), means.mean(0, keepdim=True))
        tokens = (images, images * w, images * h)
        return PositionMeans(
            means.mean((0, 1)), dict(zip(PARTS, parts, strict=True)), dict(zip(PARTS, tokens, strict=True))
        )

    def measure(self, head: PositionMeans, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        for batch in test:
            _one_grid(batch, head.parts["position"])
            x = batch.tokens[self.settings.field].double()
            stats = {"total": _squares(x - head.mean)}
            for part, mean in head.parts.items():
                n = head.tokens[part]
                # A mean of n tokens misses new ones by 1 + 1/n of their variance: without this, noise would explain less than 0.
                stats[f"left_{part}"] = _squares(x - mean) * (n / (n + 1))
            for i, key in enumerate(batch.tokens.keys):
                units.add(key, {name: float(value[i]) for name, value in stats.items()})
        return units.rows()


def _squares(x: Tensor) -> Tensor:
    return x.square().sum((1, 2, 3))


def _one_grid(batch: Batch, like: Tensor) -> None:
    found, wanted = batch.tokens.geometry.grid_hw, tuple(like.shape[:2])
    if found != wanted:
        raise UsageError(f"position leakage needs one grid size, found {wanted} and {found}", "use view=resize")
