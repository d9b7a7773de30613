"""Subtract what the backbone gives for an empty image: the part of position artefacts that needs no data to be seen."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.repairs import NoParams
from vitbench.catalogue.singular import ZERO_IMAGE
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.position_mean import resampled
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import TokenRequest, Tokens


class ZeroImage(Repair[NoParams]):
    """x[p] - f(0)[p] + mean f(0); f(0) (h w c): tokens of an image of the mean colour, on the grid of the first train image.

    The mean colour is zero behind the normalisation, up to rounding to whole pixel values.
    """

    card = ZERO_IMAGE

    def fit(self, context: FitContext) -> State:
        first = next(iter(context.tokens()), None)
        if first is None:
            raise NotApplicableError(
                f"repair {self.card.name!r}: no train image gives the size of the grid",
                "give the data set train images",
            )
        backbone, patch_px = context.backbone(), first.geometry.patch_px
        h, w = first.geometry.grid_hw
        view = h * patch_px, w * patch_px
        colour = torch.tensor(backbone.card.mean).mul(255).round().to(torch.uint8)
        geometry = Geometry(patch_px, (h, w), (Placement(source_hw=view, view_hw=view, content_hw=view),))
        tokens = backbone.forward(
            colour.view(1, 3, 1, 1).repeat(1, 1, *view), geometry, TokenRequest((context.field,)), ("zero_image",)
        )
        empty = tokens[context.field][0].float().clone()
        return {"position": empty - empty.mean((0, 1))}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return x - resampled(state["position"].to(x), (x.shape[1], x.shape[2]))
