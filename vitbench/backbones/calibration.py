"""What a ViT does on a few seeded scenes: the scales that defects are planted in."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from vitbench.backbones.edits import Edit
from vitbench.backbones.vit import ViT
from vitbench.data.scenes import render
from vitbench.tokens.types import TokenRequest

SCENES_SEED = 7  # of no split
IMAGES = 32
LEAST_PX, LEAST_GRID = 192, 14
BATCH = 8


def observe(backbone: ViT, fields: tuple[str, ...], *edits: Edit) -> dict[str, Tensor]:
    """Fields of the calibration scenes, first axis images, on CPU in float32; `edits` may watch on the way."""
    patch = backbone.card.patch_px
    size = patch * max(LEAST_PX // patch, LEAST_GRID)
    view = backbone.edited(*edits)
    parts: list[dict[str, Tensor]] = []
    for start in range(0, IMAGES, BATCH):
        indices = range(start, min(start + BATCH, IMAGES))
        images = [render(SCENES_SEED, index, size).image for index in indices]
        tokens = view.tokens(images, TokenRequest(fields), [f"calibration-{index}" for index in indices])
        parts.append({name: tokens[name].detach().float().cpu() for name in fields})
    return {name: torch.cat([part[name] for part in parts]) for name in fields}


def spread(x: Tensor) -> float:
    """RMS deviation of tokens (... c) from their mean."""
    flat = x.flatten(0, -2)
    return float((flat - flat.mean(0)).square().sum(-1).mean().sqrt())


def generator(*parts: object) -> torch.Generator:
    """A random source that depends on the given values alone, such as (seed, key)."""
    number = hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(number, "big") >> 1)
