"""Replace tokens of outlying norm by the mean of their sound neighbours.

Outliers are found in the residual stream before the final norm, where they show (facebookresearch/dinov2 issues 293 and
373: after it they do not), with a threshold fitted on train tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.repairs import FILL_OUTLIERS, FillOutliersParams
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.moments import ThinnedSample, median_and_mad, require_images, valid_cells
from vitbench.repairs.neighbours import BOX, weighted_mean_3x3
from vitbench.repairs.norm_clip import NORMAL_MAD
from vitbench.tokens.types import Tokens

DEVIATIONS, ROBUST_Z = 3.0, 5.0


class FillOutliers(Repair[FillOutliersParams]):
    """Flagged cells take the mean of their unflagged 3x3 neighbours, ring by ring from outside in.

    Flagged: norm > mean + 3 sd, or > median + 5 x 1.4826 x MAD, over all train patches. An image of flagged cells only
    stays as it is: nothing sound is left to fill from.
    """

    card = FILL_OUTLIERS

    def fit(self, context: FitContext) -> State:
        require_images(context, self.card.name)
        sample = ThinnedSample()
        for tokens in context.tokens():
            sample.add(self._of(tokens)[valid_cells(tokens, tokens["norms"].device)])
        norms = sample.values().double()
        if not len(norms):
            raise NotApplicableError("no train tokens to fit on", "give the data set train images")
        threshold = self._threshold(norms)
        if norms[-1] <= threshold:
            raise NotApplicableError(
                f"repair {self.card.name!r}: no train token has an outlying norm ({self.params.det} rule, "
                f"threshold {float(threshold):.4g}), so there is nothing to fill",
                "the backbone may have no such artefacts, or fewer than the rule needs",
            )
        return {"threshold": threshold.float()}

    def _threshold(self, ordered: Tensor) -> Tensor:
        if self.params.det == "robust":
            median, mad = median_and_mad(ordered)
            return median + ROBUST_Z * NORMAL_MAD * mad
        return ordered.mean() + DEVIATIONS * ordered.std(correction=0)

    def _of(self, tokens: Tokens) -> Tensor:
        norms = tokens["norms"]  # b l h w
        if not -norms.shape[1] <= self.params.block < norms.shape[1]:
            raise NotApplicableError(
                f"repair {self.card.name!r}: block={self.params.block} of {norms.shape[1]} blocks",
                "use a block that is there",
            )
        return norms[:, self.params.block]

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        valid = valid_cells(tokens, x.device)
        flagged = (self._of(tokens).to(x) > state["threshold"].to(x)) & valid
        return filled(x, flagged, valid & ~flagged)


def filled(x: Tensor, flagged: Tensor, sound: Tensor) -> Tensor:
    """x: b h w c with `flagged` cells (b h w) filled from `sound` ones, neighbours first, until none is reachable."""
    out, open_cells, known = x, flagged, sound
    while bool(open_cells.any()):
        mean, reached = weighted_mean_3x3(out, known, BOX)
        now = open_cells & reached
        if not bool(now.any()):
            break
        out = torch.where(now.unsqueeze(-1), mean, out)
        known, open_cells = known | now, open_cells & ~now
    return out
