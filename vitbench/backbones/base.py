"""The contract of a backbone: a sealed public method that normalises and checks, and one hook that authors write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.fields import GRID_FIELDS, parse_field
from vitbench.errors import TokensError
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.types import TokenRequest, Tokens
from vitbench.tokens.views import Pixels, batch, normalise, place


class Backbone(ABC):
    """A frozen ViT (or a control) that turns images into tokens.

    Subclasses set `card` and write `_forward`; `tokens` is sealed. `module` is the torch module behind it, if there is one.
    `digest` identifies the weights (16 hex); `dtype` is the compute dtype.
    """

    card: BackboneCard
    module: nn.Module | None = None
    digest: str = ""
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32

    @property
    def told(self) -> str:
        """What it is, as errors name it."""
        return f"backbone {self.card.name!r}"

    @abstractmethod
    def _forward(
        self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Geometry
    ) -> dict[str, Tensor]:
        """Normalised pixels b 3 h w -> every field of the request (shapes: `vitbench.catalogue.fields`).

        `pixels` (the field) is filled in by `tokens`; `flags` is all False unless the backbone plants a defect.
        """

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Backbone:
        """Move to a device and set the compute dtype; returns itself."""
        self.device = torch.device(device)
        self.dtype = dtype or self.dtype
        if self.module is not None:
            self.module.to(self.device, self.dtype)
        return self

    @final
    def tokens(self, images: Sequence[Pixels], request: TokenRequest, keys: Sequence[str]) -> Tokens:
        """Decoded images (uint8 h w 3 each, one padded size after the view) -> Tokens.

        Raises TokensError where a field is missing, has the wrong shape, or is not finite.
        """
        placed = [p for image in images for p in place(image, request.view, self.card.patch_px)]
        if len(placed) != len(keys):  # several windows per image: each is a sample of its own
            per = len(placed) // max(len(images), 1)
            keys = [f"{key}#{i}" for key in keys for i in range(per)]
        pixels, geometry = batch(placed, self.card.patch_px)
        return self.forward(pixels, geometry, request, keys)

    @final
    @torch.inference_mode()
    def forward(self, pixels: Tensor, geometry: Geometry, request: TokenRequest, keys: Sequence[str]) -> Tokens:
        """The same from a ready batch (uint8 b 3 h w): normalise, run, check."""
        return self.differentiable(pixels, geometry, request, keys)

    @final
    def differentiable(self, pixels: Tensor, geometry: Geometry, request: TokenRequest, keys: Sequence[str]) -> Tokens:
        """As `forward`, but autograd may follow it to whatever of the module asks for gradients."""
        pixels = pixels.to(self.device)
        x = normalise(pixels, geometry, self.card.mean, request.view.std or self.card.std, self.dtype)
        fields = self._forward(x, request, keys, geometry)
        h, w = geometry.grid_hw
        if "pixels" in request.fields:
            fields["pixels"] = patch_pixels(pixels, self.card.patch_px)
        if "flags" in request.fields and "flags" not in fields:
            fields["flags"] = torch.zeros(len(keys), h, w, dtype=torch.bool, device=self.device)
        return Tokens(self._checked(fields, request, len(keys), (h, w)), geometry, tuple(keys))

    def _checked(
        self, fields: dict[str, Tensor], request: TokenRequest, n: int, grid_hw: tuple[int, int]
    ) -> dict[str, Tensor]:
        out = {}
        for name in request.fields:
            if name not in fields:
                raise TokensError(f"{self.told} gave no field {name!r}", "it was asked for")
            value = fields[name]
            expected = (n, *grid_hw) if parse_field(name).kind in (*GRID_FIELDS, "pixels", "flags") else (n,)
            if tuple(value.shape[: len(expected)]) != expected:
                raise TokensError(
                    f"{self.told}: field {name!r} has shape {tuple(value.shape)}, expected {expected} first"
                )
            # NaN and infinity survive a sum, which reads the field once and writes nothing.
            if value.is_floating_point() and not bool(value.sum(dtype=torch.float32).isfinite()):
                raise TokensError(
                    f"{self.told}: field {name!r} is not finite",
                    "check the weights, or use --dtype float32",
                )
            out[name] = value
        return out


def patch_pixels(pixels: Tensor, patch_px: int) -> Tensor:
    """uint8 b 3 h w -> uint8 b h/p w/p (p p 3), row by row inside a patch, channel last."""
    b, c, height, width = pixels.shape
    grid = pixels.reshape(b, c, height // patch_px, patch_px, width // patch_px, patch_px)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(b, height // patch_px, width // patch_px, -1)
