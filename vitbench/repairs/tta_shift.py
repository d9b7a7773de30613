"""Average patches over shifted and mirrored views: the teacher of PH-Reg (2025, arXiv 2505.21501), as a repair.

What hangs on a patch's place in the image, not on its content, differs between the views and is averaged away in part.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.ensemble import Ensemble, ImageView, moved
from vitbench.catalogue.ensembles import TTA_SHIFT, TtaShiftParams
from vitbench.repairs.base import Repair, State


class TtaShift(Repair[TtaShiftParams]):
    """The backbone as a mean over views that depend on the parameters and the grid alone, never on image or batch."""

    card = TTA_SHIFT

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        return shift_ensemble(backbone, self.params)


def shift_ensemble(backbone: Backbone, params: TtaShiftParams) -> Ensemble:
    """Any backbone as the mean over its image and `params.views` - 1 shifted views of it."""
    mean, std = torch.tensor(backbone.card.mean), torch.tensor(backbone.card.std)
    white = ((1 - mean) / std).view(3, 1, 1)
    patch_px = backbone.card.patch_px

    def views(grid_hw: tuple[int, int]) -> list[ImageView]:
        offsets, flips = draw_shifts(grid_hw, params)
        return [PatchShift(o, f, patch_px, white) for o, f in zip(offsets[1:], flips[1:], strict=True)]

    return Ensemble(backbone, views)


@dataclass(frozen=True)
class PatchShift(ImageView):
    """The image moved by whole patches (dy up, dx left; white where nothing was), then mirrored if `flipped`."""

    offset: tuple[int, int]
    flipped: bool
    patch_px: int
    white: Tensor

    def look(self, pixels: Tensor) -> Tensor:
        dy, dx = self.offset
        out = moved(pixels, (dy * self.patch_px, dx * self.patch_px), (2, 3), self.white)
        return out.flip(3) if self.flipped else out

    def back(self, x: Tensor) -> Tensor:
        x = x.flip(2) if self.flipped else x
        return moved(x.float(), (-self.offset[0], -self.offset[1]), (1, 2))

    def weight(self, grid_hw: tuple[int, int]) -> Tensor:
        return moved(torch.ones(grid_hw), (-self.offset[0], -self.offset[1]), (0, 1))


def draw_shifts(grid_hw: tuple[int, int], params: TtaShiftParams) -> tuple[list[tuple[int, int]], list[bool]]:
    """Offsets (dy, dx) in patches and coin flips of all views; the first is the image itself.

    Of `candidates` uniform draws, each further offset is the one farthest from those taken (Euclidean; ties: the earliest).
    """
    generator = torch.Generator().manual_seed(params.seed)
    reach = [round(params.reach * n) for n in grid_hw]
    drawn = [torch.randint(-s, s + 1, (params.candidates,), generator=generator) for s in reach]
    coins = torch.rand(params.views, generator=generator) < 0.5
    candidates = torch.stack(drawn, dim=1)
    offsets = [(0, 0)]
    nearest = candidates.square().sum(1)
    for _ in range(params.views - 1):
        chosen = candidates[_first_largest(nearest)]
        offsets.append((int(chosen[0]), int(chosen[1])))
        nearest = torch.minimum(nearest, (candidates - chosen).square().sum(1))
    return offsets, [False] + [params.flips and bool(coin) for coin in coins[1:]]


def _first_largest(values: Tensor) -> int:
    return values.tolist().index(int(values.max()))
