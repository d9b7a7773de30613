"""LOST: one object box per image from the Gram matrix of its keys (Simeoni et al. 2021, arXiv 2109.14279)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

_GRAM_VALUES = 1 << 25  # Gram entries held at once


@dataclass(frozen=True)
class LostBoxes:
    """boxes: b 4 in cells (x0 y0 x1 y1, exclusive ends); seeds: b (row-major index); outside: b, the seed missed the mask."""

    boxes: npt.NDArray[np.float32]
    seeds: npt.NDArray[np.int64]
    outside: npt.NDArray[np.bool_]


def lost_boxes(keys: Tensor, k: int = 100, gram_bias: float = 0.0, centre: bool = False) -> LostBoxes:
    """One box per image from patch keys b h w c, raw (neither scaled nor normalised); padding cells take part.

    Ties in degree go to the lowest index, so that the result does not depend on the device. Where the seed lies outside its
    mask (the reference raises) the box is the seed's own cell.
    """
    b, h, w, _ = keys.shape
    step = max(_GRAM_VALUES // (h * w) ** 2, 1)
    parts = [_masks(keys[i : i + step].flatten(1, 2), k, gram_bias, centre) for i in range(0, b, step)]
    masks = np.concatenate([m for m, _ in parts]).reshape(b, h, w)
    seeds = np.concatenate([s for _, s in parts])
    found = [seed_component_box(mask, int(seed)) for mask, seed in zip(masks, seeds, strict=True)]
    return LostBoxes(np.stack([box for box, _ in found]), seeds, np.array([outside for _, outside in found]))


def _masks(keys: Tensor, k: int, gram_bias: float, centre: bool) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Masks (b n) and seeds (b) from keys b n c."""
    if centre:
        keys = keys - keys.mean(1, keepdim=True)
    gram = keys @ keys.mT + gram_bias
    positive = gram > 0
    degree = positive.sum(-1) - positive.diagonal(dim1=1, dim2=2).long()
    order = degree.argsort(dim=-1, stable=True)
    seed, potential = order[:, :1], order[:, :k]
    similar = torch.zeros_like(degree, dtype=gram.dtype)
    row = gram.gather(1, seed[:, :, None].expand(-1, -1, gram.shape[2]))[:, 0]
    similar.scatter_(1, potential, (row.gather(1, potential) > 0).to(gram.dtype))
    # The rows are summed as they are, not as signs: the released code, not the paper's equation (LOST issue 5).
    total = torch.bmm(similar[:, None], gram)[:, 0]
    return (total > 0).cpu().numpy(), seed[:, 0].cpu().numpy()


def seed_component_box(mask: npt.NDArray[np.bool_], seed: int) -> tuple[npt.NDArray[np.float32], bool]:
    """Extent in cells of the 4-connected component of an h w mask that holds the seed, and whether the mask misses it."""
    row, col = divmod(seed, mask.shape[1])
    if not mask[row, col]:
        return np.array([col, row, col + 1, row + 1], np.float32), True
    labels, _ = ndimage.label(mask)
    rows, cols = np.nonzero(labels == labels[row, col])
    return np.array([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1], np.float32), False
