"""Neighbour similarity: do outliers stand where the image repeats itself? (Darcet et al. 2023, arXiv 2309.16588, Fig. 5a)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.diagnostics import NEIGHBOUR_SIMILARITY, NeighbourSettings
from vitbench.metrics.neighbours import cosine_counts
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.outliers import block_norms, split_threshold
from vitbench.tasks.units import UnitRows


class NeighbourSimilarity(Task[NeighbourSettings]):
    """No fit. A pair of neighbours counts once for each of its two tokens, in the group of that token."""

    card: ClassVar[TaskCard] = NEIGHBOUR_SIMILARITY

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        s, units = self.settings, UnitRows()
        threshold = split_threshold(test, s.k_mad, s.block)
        for batch in test:
            outlier = (block_norms(batch, s.block) > threshold).cpu().numpy()
            pairs = _pairs(batch, s.field)
            for i, key in enumerate(batch.tokens.keys):
                cosines, groups = [], []
                for values, first, second, shown in pairs:
                    for at in (first, second):
                        cosines.append(values[i][shown[i]])
                        groups.append(outlier[i][at][shown[i]])
                flat, is_outlier = np.concatenate(cosines), np.concatenate(groups)
                units.add(key, cosine_counts(flat[~is_outlier], flat[is_outlier]))
        return units.rows({"threshold": threshold})

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        return {"outlier_threshold": rows.info["threshold"]}


def _pairs(batch: Batch, field: str) -> list[tuple[Any, Any, Any, Any]]:
    """Horizontal and vertical pairs: cosines b r c, where the first and the second of each lie (h w), and pairs that show."""
    x = torch.nn.functional.normalize(batch.tokens[field].float(), dim=-1)
    valid = batch.tokens.geometry.valid()
    every, but_last, but_first = slice(None), slice(None, -1), slice(1, None)
    out = []
    for first, second in (((every, but_last), (every, but_first)), ((but_last, every), (but_first, every))):
        cosines = (x[(every, *first)] * x[(every, *second)]).sum(-1).cpu().numpy()
        out.append((cosines, first, second, valid[(every, *first)] & valid[(every, *second)]))
    return out
