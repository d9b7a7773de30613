"""Project a block's singular defect direction out of every token (direction: Wang et al. 2024, arXiv 2407.16826)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitbench.backbones.base import Backbone
from vitbench.backbones.singular import defect_directions
from vitbench.backbones.vit import ViT
from vitbench.catalogue.fields import parse_field
from vitbench.catalogue.repairs import NoParams
from vitbench.catalogue.singular import SINDER_PROJECT
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.project_out import without
from vitbench.tokens.types import Tokens


class SinderProject(Repair[NoParams]):
    """x - <x, u> u. For `patch`, u is what the final norm makes of the last block's direction: diag(n) C u, unit length."""

    card = SINDER_PROJECT

    def fit(self, context: FitContext) -> State:
        field = parse_field(context.field)
        backbone = context.backbone()
        direction = directions_of(backbone, self.card.name)[-1 if field.block is None else field.block]
        if field.kind == "patch":
            direction = behind_final_norm(backbone, direction)
        return {"direction": direction.float()}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return without(x, state["direction"])


def directions_of(backbone: Backbone, repair: str) -> Tensor:
    """Singular directions after every block, l c. Raises NotApplicableError for a backbone without blocks to read."""
    if not isinstance(backbone, ViT):
        raise NotApplicableError(
            f"repair {repair!r} reads the weights of a ViT of timm's kind; {backbone.card.name!r} is none",
            "load the weights through timm",
        )
    return defect_directions(backbone.blocks)


def behind_final_norm(backbone: Backbone, direction: Tensor) -> Tensor:
    """A direction of the residual stream (c) as it is behind the final norm, up to length."""
    name = backbone.card.final_norm
    norm = getattr(backbone.module, name, None) if name != "none" else None
    if isinstance(norm, nn.LayerNorm):
        direction = direction - direction.mean()
    weight = getattr(norm, "weight", None)
    if weight is not None:
        direction = direction * weight.to(direction)
    return torch.nn.functional.normalize(direction, dim=0)
