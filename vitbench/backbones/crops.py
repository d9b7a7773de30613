"""Random resized crops of one image, and where their patches lie in it: the views that DVT sees an image through.

Yang et al. 2024 (arXiv 2401.02957). Coordinates are x y in 0 to 1 of the whole view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Coordinates = Literal["centres", "edges"]
AREA, ASPECT = (0.1, 0.5), (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Crop:
    """A window of a view in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    flipped: bool


def random_crops(hw: tuple[int, int], count: int, generator: torch.Generator) -> list[Crop]:
    """Windows of AREA of an h x w view, of ASPECT relative to the view's own, half of them mirrored."""
    area = torch.empty(count).uniform_(*AREA, generator=generator)
    ratio = torch.empty(count).uniform_(math.log(ASPECT[0]), math.log(ASPECT[1]), generator=generator).exp()
    place = torch.rand(2, count, generator=generator)
    flipped = torch.rand(count, generator=generator) < 0.5
    height = ((area / ratio).sqrt() * hw[0]).round().clamp(1, hw[0])
    width = ((area * ratio).sqrt() * hw[1]).round().clamp(1, hw[1])
    top = (place[0] * (hw[0] - height + 1)).floor().clamp(max=hw[0] - height)
    left = (place[1] * (hw[1] - width + 1)).floor().clamp(max=hw[1] - width)
    columns = [t.int().tolist() for t in (top, left, height, width)]
    return [Crop(*window) for window in zip(*columns, flipped.tolist(), strict=True)]


def cut(image: Tensor, crop: Crop, hw: tuple[int, int]) -> Tensor:
    """image 3 h w (float) -> the crop as a view 3 *hw, bicubic with antialias."""
    window = image[:, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    out = functional.interpolate(window[None], size=hw, mode="bicubic", antialias=True, align_corners=False)[0]
    return out.flip(-1) if crop.flipped else out


def grid_points(grid_hw: tuple[int, int], coordinates: Coordinates) -> Tensor:
    """h w 2 (x y): where the patches of a grid lie in their own view; `centres`: (j + 0.5) / P, `edges`: j / (P - 1)."""
    axes = []
    for count in grid_hw:
        if coordinates == "centres":
            axes.append((torch.arange(count) + 0.5) / count)
        else:
            axes.append(torch.linspace(0, 1, count))
    y, x = torch.meshgrid(*axes, indexing="ij")
    return torch.stack((x, y), dim=-1)


def crop_points(crop: Crop, hw: tuple[int, int], grid_hw: tuple[int, int], coordinates: Coordinates) -> Tensor:
    """h w 2 (x y): where the patches of a crop lie in the h x w view it was cut from."""
    own = grid_points(grid_hw, coordinates)
    if crop.flipped:
        own = torch.stack((1 - own[..., 0], own[..., 1]), dim=-1)
    size = torch.tensor([crop.width / hw[1], crop.height / hw[0]])
    return own * size + torch.tensor([crop.left / hw[1], crop.top / hw[0]])
