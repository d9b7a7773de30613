"""Singular alignment: do outlier tokens lie along the direction a block writes by itself? (Wang et al. 2024, 2407.16826)"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.fields import NO_DIRECTIONS
from vitbench.catalogue.suited import no_field
from vitbench.catalogue.tasks.diagnostics import SINGULAR_ALIGNMENT, SingularSettings
from vitbench.metrics.singular import angle_counts
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.outliers import block_norms, split_threshold
from vitbench.tasks.units import UnitRows


class SingularAlignment(Task[SingularSettings]):
    """No fit. Which tokens are outliers is told by their norm after one block; their angles are those after every block."""

    card: ClassVar[TaskCard] = SINGULAR_ALIGNMENT

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        s, units, blocks = self.settings, UnitRows(), 0
        threshold = split_threshold(test, s.k_mad, s.block)
        for batch in test:
            cosines, valid = batch.tokens[s.field].cpu().numpy(), batch.tokens.geometry.valid()
            norms, blocks = block_norms(batch, s.block).cpu().numpy(), cosines.shape[1]
            if not blocks:
                raise no_field(s.field, NO_DIRECTIONS)
            for i, key in enumerate(batch.tokens.keys):
                units.add(key, angle_counts(cosines[i][:, valid[i]], norms[i][valid[i]], threshold))
        return units.rows({"blocks": blocks, "block": s.block, "threshold": threshold})

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        return {"outlier_threshold": rows.info["threshold"]}
