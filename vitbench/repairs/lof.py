"""Local outlier factor: how much sparser a token's surroundings are than those of its neighbours (Breunig et al. 2000)."""

from __future__ import annotations

import torch
from torch import Tensor

NEIGHBOURS = 20
FLOOR = 1e-10  # of mean reachability, for tokens that occur more than 20 times


def local_outlier_factor(x: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Tokens n c -> factor n: about 1 inside a cluster, larger outside; k is cut to n - 1, and 1 where n < 2."""
    k = min(k, len(x) - 1)
    if k < 1:
        return x.new_ones(len(x))
    # Distances between near tokens are differences of large squares: they need the digits of double precision.
    wide = x.double() - x.double().mean(0)
    distances = torch.cdist(wide, wide).fill_diagonal_(torch.inf)
    near, index = distances.topk(k, dim=1, largest=False)
    reach = torch.maximum(near, near[:, -1][index])
    density = 1 / (reach.mean(1) + FLOOR)
    return (density[index].mean(1) / density).to(x.dtype)


def grid_outlier_factor(x: Tensor, counts: Tensor) -> Tensor:
    """The factor within each image: b h w c over the cells that count (b h w) -> b h w, 0 elsewhere."""
    out = x.new_zeros(x.shape[:3])
    for image, mask, scores in zip(x, counts, out, strict=True):
        scores[mask] = local_outlier_factor(image[mask])
    return out
