"""Average over sub-patch shifts (SRT; Lao et al. 2024, arXiv 2310.03967), pooled back to the patch grid.

Shift the image by pixels, encode, spread each cell over its pixels, shift back, average, pool by patch. Pooling follows from
how far cells of the two grids overlap, so no map of the image's resolution is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.ensemble import Ensemble, ImageView, moved
from vitbench.catalogue.ensembles import SRT, SrtParams
from vitbench.errors import UsageError
from vitbench.repairs.base import Repair, State


class SubpatchShifts(Repair[SrtParams]):
    """The mean over all shifts of up to d pixels; the image as it is counts twice, as in the authors' code."""

    card = SRT

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        d, patch_px = self.params.d, backbone.card.patch_px
        if d >= patch_px:
            raise UsageError(f"srt: d={d} is not below the patch of {patch_px} pixels", "shifts are parts of a patch")
        steps = range(-d, d + 1)
        views = [PixelShift((dy, dx), patch_px) for dy in steps for dx in steps if (dy, dx) != (0, 0)]
        return Ensemble(backbone, lambda _grid_hw: views, own=2.0)


@dataclass(frozen=True)
class PixelShift(ImageView):
    """The image moved by pixels (dy up, dx left); the edge is filled with zeros, the mean colour, and so are features."""

    offset: tuple[int, int]
    patch_px: int

    def look(self, pixels: Tensor) -> Tensor:
        return moved(pixels, self.offset, (2, 3))

    def back(self, x: Tensor) -> Tensor:
        rows, columns = (
            overlaps(n, d, self.patch_px).to(x.device) for n, d in zip(x.shape[1:3], self.offset, strict=True)
        )
        return torch.einsum("rh,bhwc,sw->brsc", rows, x.float(), columns)

    def weight(self, grid_hw: tuple[int, int]) -> Tensor:
        return torch.ones(grid_hw)


def overlaps(n: int, d: int, patch_px: int) -> Tensor:
    """Share of each cell's pixels (rows) that lie in each cell (columns) of the same axis moved by d pixels: n n.

    Rows sum to one, save where pixels lie outside.
    """
    cell = torch.arange(n * patch_px) // patch_px
    seen = torch.arange(n * patch_px) - d
    inside = (seen >= 0) & (seen < n * patch_px)
    out = torch.zeros(n, n)
    out.index_put_((cell[inside], seen[inside] // patch_px), torch.tensor(1 / patch_px), accumulate=True)
    return out
