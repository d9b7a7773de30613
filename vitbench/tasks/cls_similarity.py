"""Patch-CLS similarity: how like CLS patches become from block to block."""

from __future__ import annotations

from typing import ClassVar

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.foreground import PATCH_CLS_SIMILARITY, ClsSimilaritySettings
from vitbench.errors import UsageError
from vitbench.metrics.cls_similarity import similarity_counts
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.units import UnitRows


class PatchClsSimilarity(Task[ClsSimilaritySettings]):
    """No fit. Padding is left out."""

    card: ClassVar[TaskCard] = PATCH_CLS_SIMILARITY

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        units, blocks, block = UnitRows(), 0, self.settings.block
        for batch in test:
            cosines, valid = batch.tokens[self.settings.field].cpu().numpy(), batch.tokens.geometry.valid()
            blocks = cosines.shape[1]
            if not -blocks <= block < blocks:
                raise UsageError(f"block {block} of {blocks}", f"-{blocks}..{blocks - 1}")
            for i, key in enumerate(batch.tokens.keys):
                units.add(key, similarity_counts(cosines[i][:, valid[i]]))
        return units.rows({"blocks": blocks, "block": block})
