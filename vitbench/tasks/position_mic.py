"""Position MIC: what single channels tell of a token's column and row (Yang et al. 2024, arXiv 2401.02957)."""

from __future__ import annotations

from typing import ClassVar

import torch

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.position import POSITION_MIC, PositionMicSettings
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.maximal_information import Grids, maximal_information
from vitbench.tasks.units import UnitRows


class PositionMic(Task[PositionMicSettings]):
    """No fit: every image is a sample of its own, its tokens the points. Padding is no token."""

    card: ClassVar[TaskCard] = POSITION_MIC

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        units, grids = UnitRows(), Grids(self.settings.alpha, self.settings.clumps)
        for batch in test:
            tokens = batch.tokens[self.settings.field]
            valid = torch.from_numpy(batch.tokens.geometry.valid()).to(tokens.device)
            for image, real, key in zip(tokens, valid, batch.tokens.keys, strict=True):
                channels = image[real].T.double()  # c n
                stats = {"n": 1.0}
                for axis, place in zip("yx", real.nonzero().T, strict=True):
                    found = maximal_information(place.double(), channels, grids)
                    stats |= {axis: float(found.max()), f"mean_{axis}": float(found.mean())}
                units.add(key, stats)
        return units.rows()
