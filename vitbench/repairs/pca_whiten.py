"""Principal components of train tokens, each divided by its deviation."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.singular import PCA_WHITEN, PcaWhitenParams
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.moments import moments, require_images
from vitbench.tokens.types import Tokens

FLOOR = 1e-6  # of the largest variance, added to every one


class PcaWhiten(Repair[PcaWhitenParams]):
    """(x - mu) V / sqrt(lambda + eps), V the first d eigenvectors of the covariance of train tokens."""

    card = PCA_WHITEN

    def fit(self, context: FitContext) -> State:
        require_images(context, self.card.name)
        found = moments(context, full=True)
        channels, d = len(found.mean), self.params.d
        d = max(round(d * channels), 1) if isinstance(d, float) else d
        if d > channels or d >= found.count:
            raise NotApplicableError(
                f"repair {self.card.name!r}: d={d} components of {channels} channels and {found.count} train tokens",
                "use a smaller d or more train images",
            )
        values, vectors = torch.linalg.eigh(found.variance)  # ascending
        values, vectors = values[-d:].flip(0), vectors[:, -d:].flip(1)
        sign = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        scale = (values + FLOOR * values[0]).rsqrt()
        return {"mean": found.mean.float(), "weight": (vectors * sign * scale).float().contiguous()}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return (x - state["mean"].to(x)) @ state["weight"].to(x)
