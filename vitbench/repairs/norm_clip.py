"""Shorten tokens whose norm is beyond what is usual among train tokens; directions stay."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.repairs import NORM_CLIP, NormClipParams
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.moments import NORMAL_MAD, ThinnedSample, median_and_mad, require_images, rows
from vitbench.tokens.types import Tokens


class NormClip(Repair[NormClipParams]):
    """x min(1, tau / ||x||); tau: the q-quantile of the norms of train patches, or median + width x 1.4826 x MAD."""

    card = NORM_CLIP

    def fit(self, context: FitContext) -> State:
        require_images(context, self.card.name)
        sample = ThinnedSample()
        for tokens in context.tokens():
            sample.add(rows(tokens, context.field).norm(dim=-1))
        norms = sample.values().double()
        if not len(norms):
            raise NotApplicableError(
                f"no train tokens of field {context.field!r} to fit on", "give the data set train images"
            )
        if self.params.rule == "quantile":
            tau = _quantile(norms, self.params.q)
        else:
            median, mad = median_and_mad(norms)
            tau = median + self.params.width * NORMAL_MAD * mad
        return {"tau": tau.float()}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x * (state["tau"].to(x) / norms.clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1)


def _quantile(ordered: Tensor, q: float) -> Tensor:
    """Linear interpolation between order statistics (numpy's default; torch.quantile refuses large inputs)."""
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
