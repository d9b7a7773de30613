"""All-but-the-top: subtract the mean, project out the first directions (Mu and Viswanath 2018, arXiv 1702.01417)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.repairs import REMOVE_TOP_COMPONENTS, RemoveTopComponentsParams
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.moments import moments, require_images
from vitbench.tokens.types import Tokens


class RemoveTopComponents(Repair[RemoveTopComponentsParams]):
    """y - sum_i <y, v_i> v_i with y = x - mu; v_i the first k eigenvectors of the covariance of train tokens."""

    card = REMOVE_TOP_COMPONENTS

    def fit(self, context: FitContext) -> State:
        k = self.params.k
        if k == 0:
            return {}
        require_images(context, self.card.name)
        found = moments(context, full=True)
        channels = len(found.mean)
        if k >= min(channels, found.count):
            raise NotApplicableError(
                f"repair {self.card.name!r}: k={k} directions of {channels} channels and {found.count} train tokens",
                "use a smaller k or more train images",
            )
        vectors = torch.linalg.eigh(found.variance).eigenvectors  # ascending
        return {"mean": found.mean.float(), "directions": vectors[:, -k:].flip(1).T.float().contiguous()}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        if self.params.k == 0:
            return x
        centred = x - state["mean"].to(x)
        directions = state["directions"].to(x)  # k c
        return centred - (centred @ directions.T) @ directions
