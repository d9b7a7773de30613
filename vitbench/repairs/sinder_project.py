"""Project a singular defect direction out of every token (direction: Wang et al. 2024, arXiv 2407.16826)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitbench.backbones.base import Backbone
from vitbench.catalogue.singular import SINDER_PROJECT, SinderParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.project_out import without
from vitbench.repairs.singular_defects import find_direction
from vitbench.tokens.types import Tokens


class SinderProject(Repair[SinderParams]):
    """x - <x, u> u, u as `sinder_fill` finds it; for `patch`, what the final norm makes of it: diag(n) C u, unit length."""

    card = SINDER_PROJECT

    def fit(self, context: FitContext) -> State:
        direction = find_direction(context, self.params.rule, self.card.name)["direction"]
        if context.field == "patch":
            direction = behind_final_norm(context.backbone(), direction)
        return {"direction": direction}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return without(x, state["direction"])


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
