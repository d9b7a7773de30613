"""Scale-MAE's encoder (Reed et al. 2022, arXiv 2212.14532): a plain ViT whose positions are computed, not kept in its file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitbench.backbones.checkpoints import load_weights
from vitbench.backbones.timm import create
from vitbench.backbones.vit import ViT
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.weights import WeightsState

# Its decoder; and positions, which upstream never reads from a file.
_NOT_ENCODER = re.compile(r"^(pos_embed$|mask_token|decoder_|pos_emb_projection|fpn\b|fcn)")
_BASE = 10_000.0  # longest wavelength / 2 pi, in patches


def build(card: BackboneCard, weights: WeightsState) -> ViT:
    """The encoder from a pretraining checkpoint, at a ground sample distance of 1."""
    module: Any = create(card.timm_id)
    h, w = module.patch_embed.grid_size
    with torch.no_grad():
        module.pos_embed.copy_(sincos_positions(h, w, card.embed_dim)[None])
    load_weights(module, Path(weights.path), card.name, drops=_NOT_ENCODER, keeps=("pos_embed",))
    return ViT(module.eval().requires_grad_(False), card, weights.digest)


def sincos_positions(h: int, w: int, dim: int) -> Tensor:
    """1 + h w, dim: zeros for CLS, then per patch sines and cosines of its column, then of its row (a quarter of dim each)."""
    rates = _BASE ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, cols = torch.meshgrid(torch.arange(h).double(), torch.arange(w).double(), indexing="ij")
    angles = [axis.flatten()[:, None] * rates for axis in (cols, rows)]
    waves = torch.cat([wave(a) for a in angles for wave in (torch.sin, torch.cos)], 1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), waves]).float()
