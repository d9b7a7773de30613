"""How learned positions reach a grid that is not that of pretraining, as other loaders than timm do it.

Facts from facebookresearch/dinov2 (112792f, a44758b), facebookresearch/dino (04c0ad9) and huggingface/transformers (015e687).
"""

from __future__ import annotations

from functools import partial
from types import MethodType, SimpleNamespace
from typing import Any

import torch.nn.functional as F
from torch import Tensor, cat, nn

from vitbench.catalogue.families import PositionRule
from vitbench.errors import NotApplicableError

HUB_OFFSET = 0.1  # in patches


def follow(module: nn.Module, rule: PositionRule, name: str) -> nn.Module:
    """Let a timm ViT resample its positions by a rule; all else of its forward stays timm's. Returns the module.

    `name` is the backbone's, for messages. Raises NotApplicableError for a ViT that has no absolute positions to resample.
    """
    if rule == "timm":
        return module
    positions = getattr(module, "pos_embed", None)
    if not isinstance(positions, Tensor) or positions.ndim != 3 or not hasattr(type(module), "_pos_embed"):
        raise NotApplicableError(
            f"backbone {name!r} has no learned absolute positions, so none to resample", "leave out [position=...]"
        )
    # A method of the instance and no closure, so that copies of the module resample their own positions.
    module._pos_embed = MethodType(partial(_pos_embed, rule), module)  # type: ignore[assignment]
    return module


def resampled(
    positions: Tensor, native_hw: tuple[int, int], grid_hw: tuple[int, int], prefix: int, rule: PositionRule
) -> Tensor:
    """Positions 1 p+n c of the native grid -> 1 p+hw c; as they are on that grid, computed in float32 on any other.

    hub: the scale factors say where is sampled, and they carry the offset: every cell lies a little nearer to the top left
    than with `transformers`, whose sampling follows the exact size. timm: the same size, with antialias, for which torch has
    another kernel (a = -0.5 in place of -0.75), so that grids that grow differ too.
    """
    if grid_hw == native_hw:
        return positions
    grid = positions[:, prefix:].float().reshape(1, *native_hw, -1).permute(0, 3, 1, 2)
    if rule == "hub":
        factors = tuple((new + HUB_OFFSET) / old for new, old in zip(grid_hw, native_hw, strict=True))
        grid = F.interpolate(grid, scale_factor=factors, mode="bicubic")
    else:
        grid = F.interpolate(grid, size=grid_hw, mode="bicubic", antialias=rule == "timm")
    return cat((positions[:, :prefix], grid.flatten(2).transpose(1, 2).to(positions.dtype)), dim=1)


class _OnGrid:
    """A module as timm's own `_pos_embed` sees it: with positions that are on the grid already, so that it resamples none."""

    def __init__(self, module: nn.Module, positions: Tensor, grid_hw: tuple[int, int]) -> None:
        self._module = module
        self.pos_embed = positions
        self.patch_embed = SimpleNamespace(grid_size=grid_hw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _pos_embed(rule: PositionRule, module: Any, x: Tensor) -> Any:
    """What timm's method gives for the patch embedding b h w c."""
    grid_hw = (x.shape[1], x.shape[2])
    prefix = 0 if module.no_embed_class else module.num_prefix_tokens
    positions = resampled(module.pos_embed, tuple(module.patch_embed.grid_size), grid_hw, prefix, rule)
    return type(module)._pos_embed(_OnGrid(module, positions, grid_hw), x)
