"""Project the direction that outlying tokens share out of every token."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.repairs import OutlierParams
from vitbench.catalogue.singular import PROJECT_OUT
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.detectors import Outliers
from vitbench.tokens.types import Tokens


class ProjectOut(Repair[OutlierParams]):
    """x - <x, u> u, u along the mean of the unit vectors of flagged train tokens; flags as in `fill_outliers`."""

    card = PROJECT_OUT

    def fit(self, context: FitContext) -> State:
        outliers = Outliers(self.params.det, self.params.block, self.card.name)
        found = outliers.fit(context)
        total = torch.zeros(())
        for tokens in context.tokens():
            flagged = tokens[context.field][outliers.flagged(tokens, context.field, found)]
            total = total.to(flagged.device) + torch.nn.functional.normalize(flagged, dim=-1).sum(
                0, dtype=torch.float64
            )
        if not bool(total.any()):
            raise NotApplicableError(
                f"repair {self.card.name!r}: the outlying train tokens of {context.field!r} share no direction",
                "use fill_outliers",
            )
        return {"direction": torch.nn.functional.normalize(total, dim=0).float()}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return without(x, state["direction"])


def without(x: Tensor, direction: Tensor) -> Tensor:
    """x: ... c less its part along a unit direction (c)."""
    direction = direction.to(x)
    return x - (x @ direction).unsqueeze(-1) * direction
