"""Drop channels at random: the negative control of `remove_high_variance`."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.repairs import RANDOM_DIMS, RandomDimsParams
from vitbench.repairs.base import Repair, State
from vitbench.repairs.channels import count_of, without_channels
from vitbench.tokens.types import Tokens


class RandomDims(Repair[RandomDimsParams]):
    """x[..., keep], without m channels drawn from the seed; the same ones for all fields of one width."""

    card = RANDOM_DIMS

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        channels = x.shape[-1]
        m = count_of(self.params.m, channels, self.card.name)
        order = torch.randperm(channels, generator=torch.Generator().manual_seed(self.params.seed))
        return without_channels(x, order[:m])
