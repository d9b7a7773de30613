"""LOST: one object box per image from the Gram matrix of its keys (Simeoni et al. 2021, arXiv 2109.14279)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from vitbench.tokens.checks import checked

_GRAM_VALUES = 1 << 25  # Gram entries held at once

Masks = tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class LostBoxes:
    """boxes: b 4 in cells (x0 y0 x1 y1, exclusive ends); seeds: b (row-major index); outside: b, the seed missed the mask.

    alike: b, by a cut in two: all tokens are as similar, there is nothing to cut (None: not asked).
    """

    boxes: npt.NDArray[np.float32]
    seeds: npt.NDArray[np.int64]
    outside: npt.NDArray[np.bool_]
    alike: npt.NDArray[np.bool_] | None = None

    @staticmethod
    def of(masks: npt.NDArray[np.bool_], seeds: npt.NDArray[np.int64], grid_hw: tuple[int, int]) -> LostBoxes:
        """The boxes of the seeds' components in masks b n."""
        grids = masks.reshape(-1, *grid_hw)
        found = [seed_component_box(mask, int(seed)) for mask, seed in zip(grids, seeds, strict=True)]
        return LostBoxes(np.stack([box for box, _ in found]), seeds, np.array([outside for _, outside in found]))


def lost_boxes(
    keys: Tensor, k: int = 100, gram_bias: float = 0.0, centre: bool = False, seed_by_norm: bool = False, *,
    unit: bool = False, binary: bool = False,
) -> LostBoxes:  # fmt: skip
    """One box per image from patch keys b h w c, raw (neither scaled nor normalised); padding cells take part.

    Ties in degree go to the lowest index, so that the result does not depend on the device. Where the seed lies outside its
    mask (the reference raises) the box is the seed's own cell. `seed_by_norm` ranks patches by falling norm of the token
    as given, instead of by rising degree. `unit` brings tokens to unit length (after centring); `binary` sums over similar
    patches which others are similar to them, instead of how similar.
    """
    keys = checked(keys, "b h w c", "tokens for LOST")
    b, h, w, _ = keys.shape
    step = max(_GRAM_VALUES // (h * w) ** 2, 1)
    rule = _Rule(k, gram_bias, centre, seed_by_norm, unit, binary)
    parts = [_part(keys[i : i + step].flatten(1, 2), rule) for i in range(0, b, step)]
    masks, seeds = np.concatenate([m for m, _ in parts]), np.concatenate([s for _, s in parts])
    return LostBoxes.of(masks, seeds, (h, w))


@dataclass(frozen=True)
class _Rule:
    k: int
    gram_bias: float
    centre: bool
    seed_by_norm: bool
    unit: bool
    binary: bool


def _part(keys: Tensor, rule: _Rule) -> Masks:
    """Masks (b n) and seeds (b) from keys b n c."""
    given = keys
    if rule.centre:
        keys = keys - keys.mean(1, keepdim=True)
    if rule.unit:
        keys = torch.nn.functional.normalize(keys, dim=-1)
    gram = (keys @ keys.mT).add_(rule.gram_bias)
    if rule.binary:
        gram = (gram > 0).to(gram.dtype)
    return grow(gram, by_norm(given) if rule.seed_by_norm else by_degree(gram), rule.k)


def by_norm(tokens: Tensor) -> Tensor:
    """Patches in falling order of norm: b n c -> b n."""
    norms: Tensor = torch.linalg.vector_norm(tokens, dim=-1)
    return norms.argsort(dim=-1, descending=True, stable=True)


def by_degree(gram: Tensor) -> Tensor:
    """Patches in rising order of degree, the number of others with which a patch has a positive entry: b n n -> b n."""
    positive = gram > 0
    # Counted in 32 bits, which is six times as fast as the default.
    degree = positive.sum(-1, dtype=torch.int32) - positive.diagonal(dim1=1, dim2=2).int()
    return degree.argsort(dim=-1, stable=True)


def grow(gram: Tensor, order: Tensor, k: int) -> Masks:
    """From the first patch of an order (b n) over those of its first k that are similar to it: masks b n and seeds b."""
    seed, potential = order[:, :1], order[:, :k]
    similar = torch.zeros_like(order, dtype=gram.dtype)
    row = gram.gather(1, seed[:, :, None].expand(-1, -1, gram.shape[2]))[:, 0]
    similar.scatter_(1, potential, (row.gather(1, potential) > 0).to(gram.dtype))
    # The rows are summed as they are, not as signs: the released code, not the paper's equation (LOST issue 5).
    total = torch.bmm(similar[:, None], gram)[:, 0]
    return (total > 0).cpu().numpy(), seed[:, 0].cpu().numpy()


def seed_component(mask: npt.NDArray[np.bool_], seed: int) -> npt.NDArray[np.bool_]:
    """The 4-connected component of an h w mask that holds the seed; the seed's own cell where the mask misses it."""
    row, col = divmod(seed, mask.shape[1])
    if not mask[row, col]:
        alone = np.zeros_like(mask)
        alone[row, col] = True
        return alone
    labels, _ = ndimage.label(mask)
    return np.asarray(labels == labels[row, col], bool)


def seed_component_box(mask: npt.NDArray[np.bool_], seed: int) -> tuple[npt.NDArray[np.float32], bool]:
    """Extent in cells of the component of an h w mask that holds the seed, and whether the mask misses it."""
    rows, cols = np.nonzero(seed_component(mask, seed))
    box = np.array([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1], np.float32)
    return box, not bool(mask.flat[seed])
