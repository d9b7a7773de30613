"""A 3x3 Gaussian over the token grid: shows what smoothing alone gains. Negative control."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.repairs import SMOOTH3, Smooth3Params
from vitbench.repairs.base import Repair, State
from vitbench.repairs.moments import valid_cells
from vitbench.repairs.neighbours import BINOMIAL, weighted_mean_3x3
from vitbench.tokens.types import Tokens


class Smooth3(Repair[Smooth3Params]):
    """(1 - s) x + s [1 2 1; 2 4 2; 1 2 1]/16 * x, renormalised at the border; padding neither gives nor takes."""

    card = SMOOTH3

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        if self.params.strength == 0:
            return x
        valid = valid_cells(tokens, x.device)
        smooth, _ = weighted_mean_3x3(x, valid, BINOMIAL)
        return torch.where(valid.unsqueeze(-1), torch.lerp(x, smooth, self.params.strength), x)
