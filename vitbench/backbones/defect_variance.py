"""Output channels of large variance and no content (cf. Vanyan et al. 2024, arXiv 2401.00463)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.backbones.calibration import generator, observe
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT
from vitbench.catalogue.defects import VarianceParams


def plant_variance(backbone: ViT, params: VarianceParams) -> ViT:
    """The backbone with noise added to a fraction of the channels of its patch tokens after the final norm.

    The noise of an image depends on (seed, key) alone; CLS and registers are left alone.
    """
    dim = backbone.card.embed_dim
    count = max(round(params.channels * dim), 1)
    channels = torch.randperm(dim, generator=generator("variance", params.seed))[:count]
    deviation = 0.0
    if params.strength > 0:
        deviation = float(observe(backbone, ("patch",))["patch"].flatten(0, 2).std(0).square().mean().sqrt())
    return backbone.edited(_Variance(params, channels, params.strength * deviation))


class _Variance(Edit):
    def __init__(self, params: VarianceParams, channels: Tensor, deviation: float) -> None:
        self.params, self.channels, self.deviation = params, channels, deviation

    def output(self, x: Tensor, context: EditContext) -> Tensor:
        context.flag(x.new_ones(len(x), *context.grid_hw, dtype=torch.bool))
        if self.deviation == 0:
            return x
        h, w = context.grid_hw
        noise = torch.stack(
            [
                torch.randn(h, w, len(self.channels), generator=generator("variance", self.params.seed, key))
                for key in context.keys
            ]
        )
        grid = context.grid(x).clone()
        grid[..., self.channels.to(x.device)] += (noise * self.deviation).to(x)
        return context.with_grid(x, grid)
