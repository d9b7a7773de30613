"""Subtract the mean train token."""

from __future__ import annotations

from torch import Tensor

from vitbench.catalogue.repairs import CENTER, NoParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.moments import moments, require_images
from vitbench.tokens.types import Tokens


class Center(Repair[NoParams]):
    """x - mu, mu over train tokens (c)."""

    card = CENTER

    def fit(self, context: FitContext) -> State:
        require_images(context, self.card.name)
        return {"mean": moments(context).mean.float()}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return x - state["mean"].to(x)
