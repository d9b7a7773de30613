"""Patch tokens blended with global semantics ('semantic diffusion', Su 2026, arXiv 2605.23868)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT
from vitbench.catalogue.defects import DiffusionParams
from vitbench.catalogue.suited import no_cls


def plant_diffusion(backbone: ViT, params: DiffusionParams) -> ViT:
    """The backbone whose patches, after the last block and before the final norm, are (1 - s) x + s g.

    g: the mean of the image's patches (padding aside), or its CLS at that mean's length.
    """
    if params.source == "cls" and not backbone.has_cls:
        raise no_cls(backbone.card.name)
    return backbone.edited(_Diffusion(params))


class _Diffusion(Edit):
    def __init__(self, params: DiffusionParams) -> None:
        self.params = params

    def after_block(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        if i != context.depth - 1:
            return x
        context.flag(x.new_ones(len(x), *context.grid_hw, dtype=torch.bool))
        if self.params.strength == 0:
            return x
        grid = context.grid(x)
        shown = torch.from_numpy(context.geometry.valid()).to(x.device).unsqueeze(-1)
        mean = (grid * shown).sum((1, 2), keepdim=True) / shown.sum((1, 2), keepdim=True)
        if self.params.source == "cls":
            cls = x[:, :1, None]
            mean = cls * (_length(mean) / _length(cls))
        return context.with_grid(x, torch.lerp(grid, mean.to(x.dtype), self.params.strength))


def _length(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.clamp_min(torch.finfo(x.dtype).tiny)
