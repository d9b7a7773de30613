"""Tokens along a singular defect direction (Wang et al. 2024, arXiv 2407.16826), found behind the last block.

A block writes its defect once, and the residual stream carries it to the end; the linear map behind the directions drifts
with every further block, since it drops the division of norms, which holds later blocks back on long tokens. So each block's
direction is tried on the last tokens, and the one along which outlying train tokens lie most is taken.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.singular import defect_directions
from vitbench.catalogue.singular import SingularRule
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext
from vitbench.repairs.last_block import as_vit
from vitbench.repairs.moments import ThinnedSample, require_images, robust_threshold, valid_cells
from vitbench.tokens.types import Tokens

DEVIATIONS, LEAST_FLAGS = 4.0, 3  # of the published rule
SAMPLE = 1 << 18  # cosines kept per block


def find_direction(context: FitContext, rule: SingularRule, repair: str) -> dict[str, Tensor]:
    """`direction` (c) and, by the robust rule, `threshold`. Raises NotApplicableError where no train token is flagged."""
    require_images(context, repair)
    directions = _directions(context.backbone(), repair)
    thresholds = _thresholds(context, directions) if rule == "robust" else None
    taken = torch.zeros(len(directions), dtype=torch.float64)
    for tokens in context.tokens():
        cosines = _cosines(tokens, directions)
        flags = _outlying(cosines, valid_cells(tokens, cosines.device), thresholds)
        taken += (cosines * flags).sum((0, 1, 2)).double().cpu()
    best = int(taken.argmax())
    if not float(taken[best]):
        raise NotApplicableError(
            f"repair {repair!r}: no train token lies along a singular direction ({rule} rule), so there is nothing to repair",
            "the backbone may have no such artefacts, or more of them than the published rule can tell",
        )
    state = {"direction": directions[best]}
    return state if thresholds is None else {**state, "threshold": thresholds[best]}


def along_direction(tokens: Tokens, state: Mapping[str, Tensor]) -> Tensor:
    """Cells that the fitted rule flags, b h w."""
    cosines = _cosines(tokens, state["direction"].unsqueeze(0))
    return _outlying(cosines, valid_cells(tokens, cosines.device), state.get("threshold"))[..., 0]


def _directions(backbone: Backbone, repair: str) -> Tensor:
    return defect_directions(as_vit(backbone, repair).blocks).float()


def _cosines(tokens: Tokens, directions: Tensor) -> Tensor:
    """|cos| of every token before the final norm with every direction (l c), b h w l."""
    x = tokens["patch_raw"]
    return (torch.nn.functional.normalize(x, dim=-1) @ directions.to(x).T).abs()


def _thresholds(context: FitContext, directions: Tensor) -> Tensor:
    samples = [ThinnedSample(SAMPLE) for _ in directions]
    for tokens in context.tokens():
        cosines = _cosines(tokens, directions)
        for sample, values in zip(samples, cosines[valid_cells(tokens, cosines.device)].T, strict=True):
            sample.add(values)
    return torch.stack([robust_threshold(sample.values()) for sample in samples])


def _outlying(cosines: Tensor, valid: Tensor, thresholds: Tensor | None) -> Tensor:
    """b h w l flags: above fitted thresholds (l), or, without any, by the published rule within each image."""
    valid = valid.unsqueeze(-1)
    if thresholds is not None:
        return (cosines > thresholds.to(cosines)) & valid
    count = valid.sum((1, 2), keepdim=True).clamp_min(2)
    mean = (cosines * valid).sum((1, 2), keepdim=True) / count
    variance = ((cosines - mean).square() * valid).sum((1, 2), keepdim=True) / (count - 1)
    flags = (cosines > mean + DEVIATIONS * variance.sqrt()) & valid
    return flags & (flags.sum((1, 2), keepdim=True) >= LEAST_FLAGS)
