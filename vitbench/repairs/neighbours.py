"""3x3 neighbourhoods on token grids, with cells that do not count."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

BINOMIAL = (1.0, 2.0, 1.0)
BOX = (1.0, 1.0, 1.0)


def weighted_mean_3x3(x: Tensor, counts: Tensor, weights: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """Separable 3x3 mean over the cells that count, renormalised at borders and holes.

    x: b h w c; counts: b h w bool. Gives the mean (b h w c; 0 where no neighbour counts) and whether any did (b h w).
    """
    mask = counts.to(x.dtype).unsqueeze(-1)
    total = _blur(x * mask, weights)
    mass = _blur(mask, weights)
    return total / mass.clamp_min(torch.finfo(x.dtype).tiny), mass.squeeze(-1) > 0


def _blur(x: Tensor, weights: tuple[float, float, float]) -> Tensor:
    h, w = x.shape[1:3]
    padded = functional.pad(x, (0, 0, 1, 1, 1, 1))
    down = sum(weight * padded[:, i : i + h] for i, weight in enumerate(weights))
    assert isinstance(down, Tensor)
    across = sum(weight * down[:, :, i : i + w] for i, weight in enumerate(weights))
    assert isinstance(across, Tensor)
    return across
