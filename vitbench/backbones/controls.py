"""Backbones that must lose: an untrained ViT, the raw colours of a patch, and position alone.

Each takes `patch_px`, so that it can stand beside any backbone on the same grid.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from timm.layers import PatchEmbed
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.lab import build_lab_vit, start_with_edges
from vitbench.backbones.summaries import cls_cosines
from vitbench.backbones.vit import ViT
from vitbench.catalogue.backbones import RandomViTParams
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.fields import CLS_FIELDS, GRID_FIELDS, NO_ATTENTION, parse_field
from vitbench.catalogue.suited import no_field
from vitbench.catalogue.weights import WeightsState
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.types import TokenRequest

COLOUR_SIDE = 8  # a patch is averaged to 8x8 pixels, so that features have one width whatever the patch
COSINES = 8  # per axis


def random_vit(card: BackboneCard, weights: WeightsState) -> ViT:
    """The lab's architecture as its trainings find it, edge filters included: the same for a seed on every run and device.

    With noise in place of the edge filters it would be a weaker control than what the lab's models start from.
    """
    params: RandomViTParams = card.options["params"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        module = build_lab_vit()
        if params.patch_px != module.patch_embed.patch_size[0]:
            side = params.patch_px * module.patch_embed.grid_size[0]
            module.patch_embed = PatchEmbed(
                side, params.patch_px, embed_dim=module.embed_dim, strict_img_size=False, output_fmt="NHWC"
            )
        start_with_edges(module)
    return ViT(module.eval().requires_grad_(False), card, weights.digest)


class _Stateless(Backbone):
    """A control without weights or depth: one grid of features stands for every grid field and every block."""

    def __init__(self, card: BackboneCard, weights: WeightsState) -> None:
        self.card = card
        self.digest = weights.digest

    @abstractmethod
    def _features(self, pixels: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Normalised pixels b 3 H W -> b h w c."""

    def _forward(
        self,
        pixels: Tensor,
        request: TokenRequest,
        keys: Sequence[str],  # noqa: ARG002 - part of the contract
        geometry: Geometry,
    ) -> dict[str, Tensor]:
        features = self._features(pixels, geometry.grid_hw)
        return {
            name: self._field(parse_field(name).kind, features)
            for name in request.fields
            if name not in ("pixels", "flags")
        }

    def _field(self, kind: str, features: Tensor) -> Tensor:
        if kind in GRID_FIELDS:
            return features
        if kind in CLS_FIELDS:
            return features.mean(dim=(1, 2))
        if kind == "norms":
            norms: Tensor = torch.linalg.vector_norm(features, dim=-1, dtype=torch.float32)
            return norms[:, None]
        if kind == "cls_similarity":
            b, h, w, _ = features.shape
            return cls_cosines(features.flatten(1, 2), 0, slice(None)).reshape(b, 1, h, w)
        if kind in ("singular_cosine", "attention_spread"):
            return features.new_zeros(len(features), 0, *features.shape[1:3], dtype=torch.float32)
        if kind == "registers":
            return features.new_zeros(len(features), 0, features.shape[-1])
        raise no_field(kind, NO_ATTENTION, self.card.name)


class PatchColour(_Stateless):
    """Features are the patch's own pixels in -1..1, averaged to 8x8: 192 channels, row by row, RGB last."""

    def _features(self, pixels: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        h, w = grid_hw
        patch = self.card.patch_px
        patches = pixels.reshape(len(pixels), 3, h, patch, w, patch).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        small: Tensor = torch.nn.functional.adaptive_avg_pool2d(patches, COLOUR_SIDE)
        return small.permute(0, 2, 3, 1).reshape(len(pixels), h, w, -1)


class PositionOnly(_Stateless):
    """Features are products of cosines of the relative row and column, weaker at higher frequencies: 64 channels.

    Near positions have near features at any grid size; the picture has no influence.
    """

    def _features(self, pixels: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        rows, cols = (_cosines(n, pixels) for n in grid_hw)
        both = torch.einsum("hi,wj->hwij", rows, cols).flatten(2)
        return both.expand(len(pixels), *both.shape)


def _cosines(n: int, like: Tensor) -> Tensor:
    """n positions x COSINES frequencies."""
    centre = (torch.arange(n, device=like.device, dtype=torch.float32) + 0.5) / n
    frequency = torch.arange(COSINES, device=like.device, dtype=torch.float32)
    return (torch.cos(math.pi * centre[:, None] * frequency) / (1 + frequency)).to(like.dtype)
