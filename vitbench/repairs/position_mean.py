"""Subtract what tokens have in common at each grid position.

The additive part of position artefacts (cf. the G of Yang et al. 2024, arXiv 2401.02957), as a plain mean over images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vitbench.catalogue.repairs import POSITION_MEAN, NoParams
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.moments import require_images, valid_cells
from vitbench.tokens.types import Tokens

LEAST_IMAGES = 20  # the mean of n images adds 1/n of a token's own variance as noise


class PositionMean(Repair[NoParams]):
    """x[p] - mu_pos[p] + mu; mu_pos (h w c) is resampled bicubically to other grids."""

    card = POSITION_MEAN

    def fit(self, context: FitContext) -> State:
        require_images(context, self.card.name, LEAST_IMAGES)
        total: Tensor | None = None
        count = torch.zeros(0)
        for tokens in context.tokens():
            x = tokens[context.field]
            if total is None:
                total = torch.zeros(x.shape[1:], dtype=torch.float64, device=x.device)
                count = torch.zeros(x.shape[1:3], dtype=torch.float64, device=x.device)
            if x.shape[1:] != total.shape:
                raise NotApplicableError(
                    f"repair {self.card.name!r}: train grids {tuple(total.shape[:2])} and {tuple(x.shape[1:3])}",
                    "positions need images of one size: use a view that resizes or crops",
                )
            valid = valid_cells(tokens, x.device)
            total += (x * valid.unsqueeze(-1)).sum(0, dtype=torch.float64)
            count += valid.sum(0)
        if total is None or not bool(count.any()):
            raise NotApplicableError(
                f"no train tokens of field {context.field!r} to fit on", "give the data set train images"
            )
        mean = total.sum((0, 1)) / count.sum()
        # A position that no train image covers keeps the overall mean: nothing is known there, nothing is subtracted.
        position = torch.where((count > 0).unsqueeze(-1), total / count.clamp_min(1).unsqueeze(-1), mean)
        return {"position": position.float(), "mean": mean.float()}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return x - resampled(state["position"].to(x), (x.shape[1], x.shape[2])) + state["mean"].to(x)


def resampled(position: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """h w c -> the same field on another grid, bicubic; raises NotApplicableError from a grid of one row or column."""
    fitted = tuple(position.shape[:2])
    if fitted == grid_hw:
        return position
    if min(fitted) < 2:
        raise NotApplicableError(
            f"repair 'position_mean' was fitted on a grid of {fitted} cells, which cannot be resampled to {grid_hw}",
            "fit on the view that is evaluated",
        )
    channels_first = position.permute(2, 0, 1).unsqueeze(0)
    out = functional.interpolate(channels_first, size=grid_hw, mode="bicubic", align_corners=False)
    return out.squeeze(0).permute(1, 2, 0)
