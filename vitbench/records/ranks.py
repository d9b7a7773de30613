"""Ranks with intervals: which places of each the data do not exclude (marginal rank sets, Mogstad et al. 2024).

Rows that are far apart need no covariance, so thousands of rows take a band of the matrix of all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from vitbench.records.inference import ALPHA, Estimate, Floats

_BLOCK = 256
_FEW = 1024  # up to here float64 throughout; beyond, float32 with float64 where it could matter
_PAIRS = 2048  # computed again at once
_CLOSE = 1e-3  # share of the variances under which the spread of a difference is computed again from the difference

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Sorted:
    """Estimates from worst to best: values (n,), variances (n,), and centred replicates of batches resampled alike.

    batch (n,): number of the batch, -1 - i for an estimate alone. x (n, d): rows scaled so that x @ x.T is the covariance.
    """

    value: Floats
    variance: Floats
    batch: Ints
    x: npt.NDArray[np.floating]

    def spread(self, a: slice, b: slice) -> Floats:
        """Variances of the differences between two blocks: (rows of a, rows of b)."""
        total: Floats = self.variance[a, None] + self.variance[None, b]
        alike = self.batch[a, None] == self.batch[None, b]
        if not alike.any():
            return total
        shared = (self.x[a] @ self.x[b].T).astype(np.float64)
        found: Floats = np.clip(total - 2 * np.where(alike, shared, 0.0), 0, None)
        return found


def shared_ranks(
    estimates: Sequence[Estimate], higher_is_better: bool = True, asked: Sequence[bool] | None = None
) -> list[tuple[int, int]]:
    """Best and worst rank of each that the data do not exclude: a 95 % interval, by paired tests against all others.

    Each row's tests are Bonferroni-corrected among themselves (marginal rank sets, Mogstad et al. 2024, Review of
    Economic Studies). Estimates that were not resampled alike are taken as independent, ones without draws as exact.
    asked: whose ranks to give, among all (default: everybody's).
    """
    n = len(estimates)
    wanted = np.ones(n, np.bool_) if asked is None else np.array(asked, np.bool_)
    if n < 2:
        return [(1, 1)] * int(wanted.sum())
    signed = np.array([e.value for e in estimates]) * (1 if higher_is_better else -1)
    order = np.argsort(signed, kind="stable")
    rows = _sorted([estimates[i] for i in order], signed[order])
    z = NormalDist().inv_cdf(1 - ALPHA / (2 * (n - 1)))
    below, above = _told_apart(rows, z, wanted[order])
    ranks: list[tuple[int, int]] = [(1, n)] * n
    for place, i in enumerate(order):
        ranks[i] = (int(above[place]) + 1, n - int(below[place]))
    return [rank for rank, is_wanted in zip(ranks, wanted, strict=True) if is_wanted]


def _told_apart(rows: _Sorted, z: float, wanted: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Per row that is wanted, how many are worse and how many are better beyond chance.

    Blocks are left out or computed whole: the last bit of a product of matrices depends on their shapes.
    """
    n = len(rows.value)
    below, above = np.zeros(n, np.int64), np.zeros(n, np.int64)
    sd = np.sqrt(rows.variance)
    blocks = [slice(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
    for i, a in enumerate(blocks):
        for b in blocks[i:]:
            if not (wanted[a].any() or wanted[b].any()):
                continue
            # Far apart whatever the covariance: the spread of a difference is at most the sum of the two.
            if rows.value[b.start] - rows.value[a.stop - 1] > z * (sd[a].max() + sd[b].max()):
                below[b] += a.stop - a.start
                above[a] += b.stop - b.start
                continue
            apart = _apart(rows, a, b, z)
            above[a] += apart.sum(1)
            below[b] += apart.sum(0)
    return below, above


def _apart(rows: _Sorted, a: slice, b: slice, z: float) -> npt.NDArray[np.bool_]:
    """(rows of a, rows of b): whether the row of b is better beyond chance."""
    gap = rows.value[None, b] - rows.value[a, None]
    spread = rows.spread(a, b)
    apart: npt.NDArray[np.bool_] = (gap > 0) & (gap**2 > z**2 * spread)
    if rows.x.dtype == np.float64:
        return apart
    close = _CLOSE * (rows.variance[a, None] + rows.variance[None, b])
    unsure = (spread < close) & (gap > 0) & (gap**2 <= z**2 * 2 * close)
    i, j = np.nonzero(unsure & (rows.batch[a, None] == rows.batch[None, b]))
    for start in range(0, len(i), _PAIRS):
        k, m = i[start : start + _PAIRS], j[start : start + _PAIRS]
        change = rows.x[a.start + k].astype(np.float64) - rows.x[b.start + m]
        apart[k, m] = gap[k, m] ** 2 > z**2 * np.einsum("pd,pd->p", change, change)
    return apart


def _sorted(estimates: Sequence[Estimate], values: Floats) -> _Sorted:
    lengths: dict[int, list[int]] = {}
    for i, e in enumerate(estimates):
        if e.draws is not None:
            lengths.setdefault(len(e.draws), []).append(i)
    kind = np.float64 if len(estimates) <= _FEW else np.float32
    x = np.zeros((len(estimates), max(lengths, default=1)), kind)
    variance = np.zeros(len(estimates))
    for length, members in lengths.items():
        for start in range(0, len(members), _BLOCK):
            block = members[start : start + _BLOCK]
            draws = np.stack([d for i in block if (d := estimates[i].draws) is not None]).astype(np.float64)
            draws -= np.nanmean(draws, 1, keepdims=True)
            draws = np.nan_to_num(draws, copy=False) / math.sqrt(max(length - 1, 1))
            variance[block] = np.einsum("id,id->i", draws, draws)
            x[block, :length] = draws
    numbers: dict[tuple[str, int], int] = {}
    batch = -1 - np.arange(len(estimates))
    for i, e in enumerate(estimates):
        if e.draws is not None and e.key:
            batch[i] = numbers.setdefault((e.key, len(e.draws)), len(numbers))
    return _Sorted(values, variance, batch, x)
