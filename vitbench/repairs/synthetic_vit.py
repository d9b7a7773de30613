"""The ViT that stands behind the synthetic tokens of `contract`, for repairs that are fitted on weights."""

from __future__ import annotations

import math
from functools import cache

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from vitbench.backbones.adapters import mlp_parts
from vitbench.backbones.vit import ViT, card_of
from vitbench.catalogue.cards import BackboneCard

CHANNELS, BLOCKS, PATCH_PX = 16, 3, 8


def loud_direction() -> Tensor:
    """The unit vector (c) along which loud tokens of the residual stream lie."""
    return (1 - 2.0 * (torch.arange(CHANNELS) % 2)) / math.sqrt(CHANNELS)


def synthetic_vit() -> ViT:
    """A fresh view on a random ViT whose last block has a neuron that writes along `loud_direction`."""
    module = _module()
    card = BackboneCard("synthetic", None, "contract", "module", 0, 0, 0, 0, 0)
    return ViT(module, card_of(module, card), "0" * 16)


@cache
def _module() -> VisionTransformer:
    module = VisionTransformer(
        img_size=6 * PATCH_PX, patch_size=PATCH_PX, embed_dim=CHANNELS, depth=BLOCKS, num_heads=2, mlp_ratio=2.0,
        num_classes=0, dynamic_img_size=True,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for name, value in module.eval().requires_grad_(False).state_dict().items():
        if value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=generator) / math.sqrt(value[0].numel()))
        elif name.endswith("bias"):
            value.zero_()
    mlp_parts(module.blocks[-1]).out.weight[:, 0] = 50 * loud_direction()
    return module
