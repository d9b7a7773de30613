"""Rank: over how many directions tokens spread (Garrido et al. 2022, arXiv 2210.02885), and how evenly."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.diagnostics import RANK, RankSettings
from vitbench.metrics.rank import effective_rank, pair_kernel
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.units import UnitRows


class Rank(Task[RankSettings]):
    """No fit. Every image has a rank of its own; that of all tokens together stands beside their mean."""

    card: ClassVar[TaskCard] = RANK

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        total: Tensor | None = None
        for batch in test:
            x = batch.tokens[self.settings.field].flatten(1, 2)
            valid = torch.from_numpy(batch.tokens.geometry.valid()).flatten(1)
            for i, key in enumerate(batch.tokens.keys):
                tokens = x[i][valid[i].to(x.device)].double()
                products = tokens.T @ tokens
                total = products if total is None else total + products
                smaller = products if len(products) <= len(tokens) else tokens @ tokens.T
                unit = torch.nn.functional.normalize(tokens, dim=1)
                kernel = pair_kernel((unit @ unit.T).cpu().numpy(), self.settings.t)
                rank = float(effective_rank(smaller.cpu().numpy()))
                units.add(key, {"n": 1.0, "rank": rank, "kernel": kernel})
        split = 0.0 if total is None else float(effective_rank(np.asarray(total.cpu().numpy())))
        return units.rows({"rank_split": split})
