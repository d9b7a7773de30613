"""Attention spread: over how much of the image the last block attends, from patches, from CLS or from registers."""

from __future__ import annotations

from typing import ClassVar

from vitbench.catalogue.cards import TaskCard, TaskSettings
from vitbench.catalogue.fields import NO_ATTENTION
from vitbench.catalogue.suited import no_field
from vitbench.catalogue.tasks.attention import ATTENTION_SPREAD
from vitbench.metrics.attention import spread_of_maps, spread_statistics
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.units import UnitRows


class AttentionSpread(Task[TaskSettings]):
    """No fit. The pass sums up what patches attend to (field `attention_spread`); maps of CLS and registers are read whole."""

    card: ClassVar[TaskCard] = ATTENTION_SPREAD

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        units, field = UnitRows(), self.settings.field
        for batch in test:
            values, valid = batch.tokens[field].cpu().numpy(), batch.tokens.geometry.valid()
            if not values.shape[1]:
                raise no_field(field, NO_ATTENTION)
            patches = values.shape[2] * values.shape[3]
            for i, key in enumerate(batch.tokens.keys):
                if field == "attention_spread":
                    numbers = values[i][:, valid[i]].astype("float64").mean(1)
                else:
                    numbers = spread_of_maps(values[i])
                units.add(key, spread_statistics(numbers, patches))
        return units.rows()
