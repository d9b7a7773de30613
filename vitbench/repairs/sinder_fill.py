"""Replace tokens that lie along the singular defect direction (Wang et al. 2024, arXiv 2407.16826) by sound neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from vitbench.catalogue.fields import acts_on
from vitbench.catalogue.singular import SINDER_FILL, SinderFillParams
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.detectors import robust_threshold
from vitbench.repairs.fill_outliers import filled
from vitbench.repairs.moments import ThinnedSample, require_images, valid_cells
from vitbench.repairs.sinder_project import directions_of
from vitbench.tokens.types import Tokens

DEVIATIONS, LEAST_FLAGS = 4.0, 3  # of the published rule


class SinderFill(Repair[SinderFillParams]):
    """Cells whose |cos(x, u)| is outlying take the mean of their unflagged 3x3 neighbours, as in `fill_outliers`.

    x: tokens after the last block, before the final norm; u: the singular direction of that block.
    """

    card = SINDER_FILL

    def fit(self, context: FitContext) -> State:
        name = self.card.name
        require_images(context, name)
        state = {"direction": directions_of(context.backbone(), name)[-1].float()}
        if self.params.rule == "robust":
            sample = ThinnedSample()
            for tokens in context.tokens():
                sample.add(_alignment(tokens, state)[valid_cells(tokens, tokens["patch_raw"].device)])
            state["threshold"] = robust_threshold(sample.values())
        if not any(bool(self._flagged(tokens, state).any()) for tokens in context.tokens()):
            raise NotApplicableError(
                f"repair {name!r}: no train token lies along the singular direction ({self.params.rule} rule), so there "
                "is nothing to fill",
                "the backbone may have no such artefacts, or more of them than the published rule can tell",
            )
        return state

    def _flagged(self, tokens: Tokens, state: State) -> Tensor:
        """Cells to be filled, b h w."""
        cosines = _alignment(tokens, state)
        valid = valid_cells(tokens, cosines.device)
        if self.params.rule == "robust":
            return (cosines > state["threshold"].to(cosines)) & valid
        count = valid.sum((1, 2), keepdim=True).clamp_min(2)
        mean = (cosines * valid).sum((1, 2), keepdim=True) / count
        variance = ((cosines - mean).square() * valid).sum((1, 2), keepdim=True) / (count - 1)
        flagged = (cosines > mean + DEVIATIONS * variance.sqrt()) & valid
        return flagged & (flagged.sum((1, 2), keepdim=True) >= LEAST_FLAGS)

    def map(self, tokens: Tokens, states: Mapping[str, State]) -> Tokens:
        """Flags are taken once, before `patch_raw` itself is repaired."""
        fields = dict(tokens.fields)
        for name, state in states.items():
            if name in fields and acts_on(self.card.acts_on, name):
                flagged = self._flagged(tokens, state)
                x = tokens[name]
                fields[name] = filled(
                    x, flagged.to(x.device), (valid_cells(tokens, flagged.device) & ~flagged).to(x.device)
                )
        return replace(tokens, fields=fields)


def _alignment(tokens: Tokens, state: State) -> Tensor:
    """|cos| of every token with the direction, b h w."""
    x = tokens["patch_raw"]
    return (torch.nn.functional.normalize(x, dim=-1) @ state["direction"].to(x)).abs()
