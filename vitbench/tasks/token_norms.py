"""Token norms: how many patch tokens stand out by their norm, after each block (Darcet et al. 2023, arXiv 2309.16588)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.probes import TOKEN_NORMS, NormSettings
from vitbench.errors import DataError
from vitbench.metrics.norms import Thresholds, norm_counts
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.outliers import block_norms
from vitbench.tasks.units import UnitRows

REFERENCE_IMAGES = 1000


class TokenNorms(Task[NormSettings]):
    """No fit. Thresholds come from the measured split itself, one per block; then every image counts its own tokens."""

    card: ClassVar[TaskCard] = TOKEN_NORMS

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        thresholds = self._thresholds(test)
        units, blocks = UnitRows(), len(thresholds.mad)
        for batch in test:
            norms = batch.tokens[self.settings.field].flatten(2).cpu().numpy()
            for i, key in enumerate(batch.tokens.keys):
                units.add(key, norm_counts(norms[i], thresholds))
        return units.rows({"blocks": blocks, "block": self.settings.block, "cutoff": self.settings.cutoff})

    def _thresholds(self, test: TokenStream) -> Thresholds:
        parts, images = [], 0
        for batch in test:
            block_norms(batch, self.settings.block)  # refuses a block that is not there
            norms = batch.tokens[self.settings.field].flatten(2).cpu().numpy()
            parts.append(norms.transpose(1, 0, 2).reshape(norms.shape[1], -1))
            images += len(norms)
            if images >= REFERENCE_IMAGES:
                break
        if not parts:
            raise DataError("the split to measure on is empty", "check the data set and --limit")
        return Thresholds.of(np.concatenate(parts, axis=1), self.settings.k_mad, self.settings.cutoff)
