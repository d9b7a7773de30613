"""A backbone whose patches are those of a field, fitted to many crops of each image (stage 1 of DVT, arXiv 2401.02957).

One image at a time, with random numbers of its own, so that tokens never depend on the batch. Fields other than `patch`
are those of the image as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.calibration import generator
from vitbench.backbones.crops import Crop, crop_points, cut, grid_points, random_crops
from vitbench.backbones.neural_field import Bank, FieldSettings, fit_field
from vitbench.catalogue.denoising import DvtFieldParams
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import TokenRequest

VIEWS_AT_ONCE = 16
LEAST = 1e-6  # deviation of tokens
SEEN = 8  # times that each token is drawn, where the number of steps is found by rule


class FieldBackbone(Backbone):
    """The inner backbone, its patches replaced by the field (or by themselves without artefact and residual)."""

    def __init__(self, inner: Backbone, params: DvtFieldParams) -> None:
        self.inner, self.params = inner, params
        self.card, self.module, self.digest = inner.card, inner.module, inner.digest
        self.device, self.dtype = inner.device, inner.dtype

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> FieldBackbone:
        self.inner.to(device, dtype)
        self.device, self.dtype = self.inner.device, self.inner.dtype
        return self

    def _forward(
        self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Geometry
    ) -> dict[str, Tensor]:
        fields = self.inner._forward(pixels, request, keys, geometry)
        if "patch" in request.fields:
            repaired = [
                self._image(pixels[i], fields["patch"][i], request, key, geometry.select([i]))
                for i, key in enumerate(keys)
            ]
            fields["patch"] = torch.stack(repaired)
        return fields

    def _image(self, image: Tensor, own: Tensor, request: TokenRequest, key: str, geometry: Geometry) -> Tensor:
        """One image 3 H W with its tokens h w c -> its repaired tokens h w c; those of padding stay as they are."""
        p, random = self.params, generator("dvt_field", self.params.seed, key)
        placement, shown = geometry.placements[0], torch.from_numpy(geometry.valid()[0])
        crops = random_crops(placement.content_hw, p.views, random)
        y = self._seen(image.float(), crops, request, key, geometry)
        grid = y.shape[1], y.shape[2]
        points = grid_points(geometry.grid_hw, p.coordinates)[shown]
        places = [points] + [crop_points(crop, placement.view_hw, grid, p.coordinates).flatten(0, 1) for crop in crops]
        # G has a node at every patch of a crop; the image's own patches lie between them.
        nodes = torch.tensor([grid[1], grid[0]])
        cell = grid_points(geometry.grid_hw, "centres")[shown] * nodes - 0.5
        cells = torch.cat((cell, (grid_points(grid, "centres") * nodes - 0.5).flatten(0, 1).repeat(p.views, 1)))
        tokens = own[shown].float()
        seen = torch.cat((tokens, y.flatten(0, 2).float()))
        unit = seen.std(0).square().mean().sqrt().clamp_min(LEAST) if p.scaled else seen.new_ones(())
        bank = Bank(seen.div_(unit), torch.cat(places))
        field = fit_field(bank, cells, grid, _settings(p, len(seen)), random)
        made = field.at(points) if p.output == "field" else field.freed(tokens / unit, cell)
        out = own.clone()
        out[shown] = (made * unit).to(out.dtype)
        return out

    def _seen(
        self, image: Tensor, crops: Sequence[Crop], request: TokenRequest, key: str, geometry: Geometry
    ) -> Tensor:
        """Tokens v h w c of crops of an image 3 H W."""
        patch_px, view_hw = geometry.patch_px, geometry.placements[0].view_hw
        grid = tuple(max(round(n * self.params.share / patch_px), 1) for n in view_hw)
        hw = grid[0] * patch_px, grid[1] * patch_px
        parts = []
        for start in range(0, len(crops), VIEWS_AT_ONCE):
            some = crops[start : start + VIEWS_AT_ONCE]
            views = torch.stack([cut(image, crop, hw) for crop in some]).to(self.dtype)
            placements = tuple(Placement((crop.height, crop.width), hw, hw) for crop in some)
            names = [f"{key}#{start + i}" for i in range(len(some))]
            only = replace(request, fields=("patch",))
            made = self.inner._forward(views, only, names, Geometry(patch_px, (grid[0], grid[1]), placements))
            parts.append(made["patch"])
        return torch.cat(parts)


def _settings(p: DvtFieldParams, tokens: int) -> FieldSettings:
    steps = p.steps or math.ceil(SEEN * tokens / p.tokens)
    return FieldSettings(p.levels, p.features, p.coarsest, p.finest, steps, p.tokens, p.rate)
