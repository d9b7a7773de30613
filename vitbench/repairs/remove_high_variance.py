"""Drop the channels with the largest variance (Vanyan et al. 2024, arXiv 2401.00463).

A few channels of masked-image models swamp distances and carry little content. The paper's code, fit set and order are
not public; here channels fall before any normalisation, and the fit set is the train split (stated in the record).
"""

from __future__ import annotations

from torch import Tensor

from vitbench.catalogue.repairs import REMOVE_HIGH_VARIANCE, RemoveHighVarianceParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.channels import count_of, kept_without
from vitbench.repairs.moments import moments, require_images
from vitbench.tokens.types import Tokens


class RemoveHighVariance(Repair[RemoveHighVarianceParams]):
    """x[..., keep], without the m channels of largest variance; ties fall from the lowest index."""

    card = REMOVE_HIGH_VARIANCE

    def fit(self, context: FitContext) -> State:
        require_images(context, self.card.name)
        variance = moments(context).variance
        m = count_of(self.params.m, len(variance), self.card.name)
        return {"keep": kept_without(variance.argsort(descending=True, stable=True)[:m], len(variance))}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return x[..., state["keep"].to(x.device)]
