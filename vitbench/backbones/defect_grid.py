"""A position-dependent pattern of low rank, the same on every image (as found by Yang et al. 2024, arXiv 2401.02957)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vitbench.backbones.calibration import generator, observe, spread
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT
from vitbench.catalogue.defects import GridParams

RANK = 4
HIGHEST = 3  # waves over the image side


def plant_grid(backbone: ViT, params: GridParams) -> ViT:
    """The backbone with the pattern added to its patch tokens at the site; CLS and registers are left alone."""
    scale = 0.0
    if params.strength > 0:
        source = _BeforeBlocks()
        fields = {"input": (), "late": ("patch_raw",), "output": ("patch",)}[params.site]
        seen = observe(backbone, fields, source)
        scale = params.strength * spread(seen[fields[0]] if fields else torch.cat(source.seen))
    directions = torch.randn(RANK, backbone.card.embed_dim, generator=generator("grid", params.seed))
    directions -= directions.mean(1, keepdim=True)  # the next norm would remove a mean over channels
    return backbone.edited(_Grid(params, torch.linalg.qr(directions.T).Q.T * scale))


class _BeforeBlocks(Edit):
    """Keeps the patch tokens that enter the first block."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def before_blocks(self, x: Tensor, context: EditContext) -> Tensor:
        self.seen.append(x[:, context.patch_slice].float().cpu())
        return x


class _Grid(Edit):
    """directions: RANK c, each of the pattern's length."""

    def __init__(self, params: GridParams, directions: Tensor) -> None:
        self.params, self.directions = params, directions

    def before_blocks(self, x: Tensor, context: EditContext) -> Tensor:
        context.flag(x.new_ones(len(x), *context.grid_hw, dtype=torch.bool))
        return self._added(x, context) if self.params.site == "input" else x

    def after_block(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        return self._added(x, context) if self.params.site == "late" and i == context.depth - 1 else x

    def output(self, x: Tensor, context: EditContext) -> Tensor:
        return self._added(x, context) if self.params.site == "output" else x

    def _added(self, x: Tensor, context: EditContext) -> Tensor:
        if self.params.strength == 0:
            return x
        pattern = (waves(context.grid_hw, self.params.seed) @ self.directions).to(x)
        return context.with_grid(x, context.grid(x) + pattern)


def waves(grid_hw: tuple[int, int], seed: int) -> Tensor:
    """h w RANK: plane waves over the image, of mean square 1 / RANK each, whatever the grid."""
    random = generator("grid waves", seed)
    h, w = grid_hw
    y, x = ((torch.arange(h) + 0.5) / h).view(-1, 1), ((torch.arange(w) + 0.5) / w).view(1, -1)
    out = []
    for _ in range(RANK):
        cycles = torch.randint(1, HIGHEST + 1, (2,), generator=random)
        phase, sign = torch.rand(2, generator=random)
        angle = cycles[0] * y + cycles[1] * x * (1 if sign < 0.5 else -1) + phase
        out.append(torch.cos(2 * math.pi * angle) * math.sqrt(2 / RANK))
    return torch.stack(out, dim=-1)
