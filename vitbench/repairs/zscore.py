"""Standardise each channel with statistics of the train tokens."""

from __future__ import annotations

from torch import Tensor

from vitbench.catalogue.repairs import ZSCORE, NoParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.moments import moments, require_images
from vitbench.tokens.types import Tokens

FLOOR = 1e-6  # added to the deviation, so that dead channels stay finite


class ZScore(Repair[NoParams]):
    """(x - mu) / (sd + 1e-6), mu and sd over train tokens (c)."""

    card = ZSCORE

    def fit(self, context: FitContext) -> State:
        require_images(context, self.card.name)
        found = moments(context)
        return {"mean": found.mean.float(), "sd": found.variance.sqrt().float()}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return (x - state["mean"].to(x)).div_(state["sd"].to(x) + FLOOR)
