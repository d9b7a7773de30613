"""Scale every token to length one."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.repairs import UNIT, NoParams
from vitbench.repairs.base import Repair, State
from vitbench.tokens.types import Tokens


class Unit(Repair[NoParams]):
    """x / ||x||; a zero token stays zero."""

    card = UNIT

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / length.clamp_min(torch.finfo(x.dtype).tiny)
