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
_EPS = float(
    np.finfo(np.float32).eps
)  # times the length of a sum, its worst error relative to the sum of the variances

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

    def spread(self, a: Ints, b: Ints) -> Floats:
        """Variances of the differences between two groups of places: (rows of a, rows of b)."""
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
    """Per row that is wanted, how many are worse and how many are better beyond chance."""
    n = len(rows.value)
    below, above = np.zeros(n, np.int64), np.zeros(n, np.int64)
    blocks = [np.arange(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
    if wanted.sum() > n / 4:  # one triangle of the matrix of all pairs is less than the wanted rows of all of it
        for i, a in enumerate(blocks):
            for b in blocks[i:]:
                apart = _apart(rows, a, b, z)
                above[a] += apart.sum(1)
                below[b] += apart.sum(0)
        return below, above
    asked = np.flatnonzero(wanted)
    for a in (asked[start : start + _BLOCK] for start in range(0, len(asked), _BLOCK)):
        for b in blocks:
            above[a] += _apart(rows, a, b, z).sum(1)
            below[a] += _apart(rows, b, a, z).sum(0)
    return below, above


def _apart(rows: _Sorted, a: Ints, b: Ints, z: float) -> npt.NDArray[np.bool_]:
    """(rows of a, rows of b): whether the row of b is better beyond chance. a and b are ascending places."""
    variance = rows.variance
    if rows.value[b[0]] - rows.value[a[-1]] > z * (math.sqrt(variance[a].max()) + math.sqrt(variance[b].max())):
        return np.ones((len(a), len(b)), np.bool_)  # far apart: a spread is at most the sum of the two
    if rows.value[b[-1]] <= rows.value[a[0]]:
        return np.zeros((len(a), len(b)), np.bool_)
    gap = rows.value[None, b] - rows.value[a, None]
    excess = gap**2 - z**2 * rows.spread(a, b)
    apart: npt.NDArray[np.bool_] = (gap > 0) & (excess > 0)
    if rows.x.dtype == np.float64:
        return apart
    # Whatever the narrow type, and the order in which a library sums, could have decided is decided by the difference.
    error = rows.x.shape[1] * _EPS * (variance[a, None] + variance[None, b])
    unsure = (gap > 0) & (np.abs(excess) <= z**2 * error) & (rows.batch[a, None] == rows.batch[None, b])
    i, j = np.nonzero(unsure)
    for start in range(0, len(i), _PAIRS):
        k, m = i[start : start + _PAIRS], j[start : start + _PAIRS]
        change = rows.x[a[k]].astype(np.float64) - rows.x[b[m]]
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
