"""Outlying tokens: one threshold over the train tokens, and what it flags.

Norms are of the residual stream before the final norm, where outliers show (facebookresearch/dinov2 issues 293 and 373:
after it they do not).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vitbench.catalogue.repairs import Detector
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, State
from vitbench.repairs.lof import grid_outlier_factor
from vitbench.repairs.moments import ThinnedSample, require_images, robust_threshold, valid_cells
from vitbench.repairs.singular_defects import along_direction, find_direction
from vitbench.tokens.types import Tokens

DEVIATIONS, LOF_QUANTILE = 3.0, 0.95


@dataclass(frozen=True)
class Outliers:
    """Which tokens are outliers, for a repair.

    det: `norm` (norm > mean + 3 sd of the train tokens), `robust` (norm > median + 5 x 1.4826 x MAD), `lof` (local
    outlier factor of the field's tokens within their image > its 95 % quantile) or `singular` (along a block's singular
    defect direction, by the robust rule). block: whose norms are read.
    """

    det: Detector
    block: int
    repair: str

    def fit(self, context: FitContext) -> State:
        """`threshold`, and what else the detector knows. Raises NotApplicableError where no train token is above it."""
        if self.det == "singular":
            return find_direction(context, "robust", self.repair)
        require_images(context, self.repair)
        sample = ThinnedSample()
        for tokens in context.tokens():
            scores = self._scores(tokens, context.field)
            sample.add(scores[valid_cells(tokens, scores.device)])
        ordered = sample.values().double()
        if not len(ordered):
            raise NotApplicableError("no train tokens to fit on", "give the data set train images")
        threshold = self._threshold(ordered)
        if ordered[-1] <= threshold:
            raise NotApplicableError(
                f"repair {self.repair!r}: no train token is outlying ({self.det} rule, threshold "
                f"{float(threshold):.4g}), so there is nothing to repair",
                "the backbone may have no such artefacts, or fewer than the rule needs",
            )
        return {"threshold": threshold.float()}

    def flagged(self, tokens: Tokens, field: str, state: State) -> Tensor:
        """Cells that show the image and are above the threshold, b h w."""
        if self.det == "singular":
            return along_direction(tokens, state)
        scores = self._scores(tokens, field)
        return (scores > state["threshold"].to(scores)) & valid_cells(tokens, scores.device)

    def _scores(self, tokens: Tokens, field: str) -> Tensor:
        if self.det == "lof":
            x = tokens[field]
            return grid_outlier_factor(x, valid_cells(tokens, x.device))
        norms = tokens["norms"]  # b l h w
        if not -norms.shape[1] <= self.block < norms.shape[1]:
            raise NotApplicableError(
                f"repair {self.repair!r}: block={self.block} of {norms.shape[1]} blocks", "use a block that is there"
            )
        return norms[:, self.block]

    def _threshold(self, ordered: Tensor) -> Tensor:
        if self.det == "lof":
            return ordered[round(LOF_QUANTILE * (len(ordered) - 1))]
        if self.det == "robust":
            return robust_threshold(ordered)
        return ordered.mean() + DEVIATIONS * ordered.std(correction=0)
