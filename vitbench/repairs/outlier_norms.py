"""Tokens of outlying residual norm: one threshold over the train tokens, and what it flags.

Norms are of the residual stream before the final norm, where outliers show (facebookresearch/dinov2 issues 293 and 373:
after it they do not).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext
from vitbench.repairs.moments import ThinnedSample, median_and_mad, require_images, valid_cells
from vitbench.repairs.norm_clip import NORMAL_MAD
from vitbench.tokens.types import Tokens

DEVIATIONS, ROBUST_Z = 3.0, 5.0


def robust_threshold(ordered: Tensor) -> Tensor:
    """Median + 5 x 1.4826 x MAD of sorted values."""
    median, mad = median_and_mad(ordered)
    return median + ROBUST_Z * NORMAL_MAD * mad


def norms_of(tokens: Tokens, block: int, repair: str) -> Tensor:
    """Norms after one block, b h w. Raises NotApplicableError for a block that is not there."""
    norms = tokens["norms"]  # b l h w
    if not -norms.shape[1] <= block < norms.shape[1]:
        raise NotApplicableError(
            f"repair {repair!r}: block={block} of {norms.shape[1]} blocks", "use a block that is there"
        )
    return norms[:, block]


def norm_threshold(context: FitContext, det: Literal["norm", "robust"], block: int, repair: str) -> Tensor:
    """The norm above which a token is an outlier: `norm` mean + 3 sd, `robust` median + 5 x 1.4826 x MAD of train norms.

    Raises NotApplicableError where no train token is above it.
    """
    require_images(context, repair)
    sample = ThinnedSample()
    for tokens in context.tokens():
        sample.add(norms_of(tokens, block, repair)[valid_cells(tokens, tokens["norms"].device)])
    norms = sample.values().double()
    if not len(norms):
        raise NotApplicableError("no train tokens to fit on", "give the data set train images")
    deviation = DEVIATIONS * norms.std(correction=0)
    threshold = robust_threshold(norms) if det == "robust" else norms.mean() + deviation
    if norms[-1] <= threshold:
        raise NotApplicableError(
            f"repair {repair!r}: no train token has an outlying norm ({det} rule, threshold {float(threshold):.4g}), "
            "so there is nothing to fill",
            "the backbone may have no such artefacts, or fewer than the rule needs",
        )
    return threshold.float()


def outlying(tokens: Tokens, threshold: Tensor, block: int, repair: str) -> Tensor:
    """Cells that show the image and have a norm above the threshold, b h w."""
    norms = norms_of(tokens, block, repair)
    return (norms > threshold.to(norms)) & valid_cells(tokens, norms.device)
