"""Drop the channels with the largest variance (Vanyan et al. 2024, arXiv 2401.00463).

A few channels of masked-image models swamp distances and carry little content. The paper's code, fit set and order are
not public; here channels fall before any normalisation, and the fit set is the train split (stated in the record).
"""

from __future__ import annotations

from torch import Tensor

from vitbench.catalogue.repairs import REMOVE_HIGH_VARIANCE, RemoveHighVarianceParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.channels import count_of, without_channels
from vitbench.repairs.moments import moments, require_images
from vitbench.tokens.types import Tokens


class RemoveHighVariance(Repair[RemoveHighVarianceParams]):
    """x without the m channels of largest variance; ties fall from the lowest index. One fit serves every m."""

    card = REMOVE_HIGH_VARIANCE

    def fit(self, context: FitContext) -> State:
        """order: channels (c), largest variance first."""
        require_images(context, self.card.name)
        return {"order": moments(context).variance.argsort(descending=True, stable=True)}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        m = count_of(self.params.m, x.shape[-1], self.card.name)
        return without_channels(x, state["order"][:m])
