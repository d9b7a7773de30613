"""Ranks with intervals: which places of each the data do not exclude (marginal rank sets, Mogstad et al. 2024).

Rows that are far apart need no covariance, so thousands of rows take a band of the matrix of all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitbench.records.inference import ALPHA, FLOAT32, Estimate, Floats

_BLOCK = 256
_FEW = 1024  # up to here float64 throughout; beyond, float32 with float64 where it could matter
_PAIRS = 2048  # computed again at once
_FREEDOMS = 1 / np.linspace(1e-9, 1, 2001)  # at which quantiles are taken; between them they are interpolated

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Sorted:
    """Estimates from worst to best: values (n,), variances (n,), and centred replicates of batches resampled alike.

    batch (n,): number of the batch, -1 - i for an estimate alone. x (n, d): rows scaled so that x @ x.T is the covariance.
    freedom (n,): of the groups, infinite where they are unknown. seeds (n,): how many, and y (n, most): their deviations,
    scaled so that y @ y.T is the covariance of the means over them.
    """

    value: Floats
    variance: Floats
    batch: Ints
    x: npt.NDArray[np.floating]
    freedom: Floats
    seeds: Ints
    y: Floats

    def spread(self, a: Ints, b: Ints) -> Floats:
        """Variances of the differences between two groups of places: (rows of a, rows of b)."""
        return self._between(a, b, self.variance, self.x)

    def _between(self, a: Ints, b: Ints, own: Floats, x: npt.NDArray[np.floating]) -> Floats:
        total: Floats = own[a, None] + own[None, b]
        alike = self.batch[a, None] == self.batch[None, b]
        if not alike.any():
            return total
        shared = (x[a] @ x[b].T).astype(np.float64)
        found: Floats = np.clip(total - 2 * np.where(alike, shared, 0.0), 0, None)
        return found

    def freedoms(self, a: Ints, b: Ints, spread: Floats) -> Floats:
        """Degrees of freedom of the differences, as in `standard_error`: (rows of a, rows of b)."""
        groups = np.minimum(self.freedom[a, None], self.freedom[None, b])
        few = np.minimum(self.seeds[a, None], self.seeds[None, b])
        of_seeds = self._between(a, b, np.einsum("ns,ns->n", self.y, self.y), self.y) * (few > 1)
        share = np.minimum(of_seeds / np.maximum(spread, np.finfo(np.float64).tiny), 1.0)
        found: Floats = 1 / ((1 - share) ** 2 / groups + share**2 / np.maximum(few - 1, 1) + 1e-9)
        return found


class _Limits:
    """How many standard errors tell two rows apart: Student's t, at a level that is corrected for all other rows."""

    def __init__(self, rows: _Sorted) -> None:
        from scipy.special import stdtrit  # where it is needed: loading it takes longer than most commands

        self._rows, self._tail = rows, ALPHA / (2 * (len(rows.value) - 1))
        self._quantiles = np.log(stdtrit(_FREEDOMS, 1 - self._tail))
        alike = np.ptp(rows.freedom) == 0 if np.isfinite(rows.freedom).all() else not np.isfinite(rows.freedom).any()
        self._same = float(stdtrit(min(rows.freedom[0], 1e9), 1 - self._tail)) if alike and not rows.y.any() else None
        fewest = min(float(rows.freedom.min()), *(rows.seeds[rows.seeds > 1] - 1), 1e9)
        self.most = float(stdtrit(max(fewest, 1), 1 - self._tail))
        self._reached = 2.0 ** -np.minimum(rows.freedom, 1000) < 2 * self._tail

    def of(self, a: Ints, b: Ints, spread: Floats) -> Floats:
        """For every pair of two groups of places: (rows of a, rows of b), or (1, 1) where all are the same."""
        if self._same is not None:
            return np.array([[self._same]])
        freedom = self._rows.freedoms(a, b, spread)
        found: Floats = np.exp(np.interp(1 / freedom, 1 / _FREEDOMS, self._quantiles))
        return found

    def reached(self, a: Ints, b: Ints) -> npt.NDArray[np.bool_]:
        """Whether a sign-flip test on as many groups could reach the level at all."""
        reached: npt.NDArray[np.bool_] = self._reached[a, None] & self._reached[None, b]
        return reached


def shared_ranks(
    estimates: Sequence[Estimate], higher_is_better: bool = True, asked: Sequence[bool] | None = None
) -> list[tuple[int, int]]:
    """Best and worst rank of each that the data do not exclude: a 95 % interval, by paired tests against all others.

    Each row's tests are those of `paired_difference`, Bonferroni-corrected among themselves (marginal rank sets, Mogstad
    et al. 2024, Review of Economic Studies).
    Estimates that were not resampled alike are taken as independent, ones without draws as exact.
    asked: whose ranks to give, among all (default: everybody's).
    """
    n = len(estimates)
    wanted = np.ones(n, np.bool_) if asked is None else np.array(asked, np.bool_)
    if n < 2:
        return [(1, 1)] * int(wanted.sum())
    signed = np.array([e.value for e in estimates]) * (1 if higher_is_better else -1)
    order = np.argsort(signed, kind="stable")
    rows = _sorted([estimates[i] for i in order], signed[order])
    below, above = _told_apart(rows, _Limits(rows), wanted[order])
    ranks: list[tuple[int, int]] = [(1, n)] * n
    for place, i in enumerate(order):
        ranks[i] = (int(above[place]) + 1, n - int(below[place]))
    return [rank for rank, is_wanted in zip(ranks, wanted, strict=True) if is_wanted]


def _told_apart(rows: _Sorted, limits: _Limits, wanted: npt.NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Per row that is wanted, how many are worse and how many are better beyond chance."""
    n = len(rows.value)
    below, above = np.zeros(n, np.int64), np.zeros(n, np.int64)
    blocks = [np.arange(start, min(start + _BLOCK, n)) for start in range(0, n, _BLOCK)]
    if wanted.sum() > n / 4:  # one triangle of the matrix of all pairs is less than the wanted rows of all of it
        for i, a in enumerate(blocks):
            for b in blocks[i:]:
                apart = _apart(rows, a, b, limits)
                above[a] += apart.sum(1)
                below[b] += apart.sum(0)
        return below, above
    asked = np.flatnonzero(wanted)
    for a in (asked[start : start + _BLOCK] for start in range(0, len(asked), _BLOCK)):
        for b in blocks:
            above[a] += _apart(rows, a, b, limits).sum(1)
            below[a] += _apart(rows, b, a, limits).sum(0)
    return below, above


def _apart(rows: _Sorted, a: Ints, b: Ints, limits: _Limits) -> npt.NDArray[np.bool_]:
    """(rows of a, rows of b): whether the row of b is better beyond chance. a and b are ascending places."""
    variance = rows.variance
    if rows.value[b[-1]] <= rows.value[a[0]]:
        return np.zeros((len(a), len(b)), np.bool_)
    reached = limits.reached(a, b)
    # Stored draws are float32: differences below its resolution are rounding, not signal.
    noise = FLOAT32 * max(np.abs(rows.value[a]).max(), np.abs(rows.value[b]).max())
    wide = limits.most * (math.sqrt(variance[a].max()) + math.sqrt(variance[b].max()))
    if rows.value[b[0]] - rows.value[a[-1]] > max(wide, noise):
        return reached  # far apart: a spread is at most the sum of the two
    gap = rows.value[None, b] - rows.value[a, None]
    real = reached & (gap > noise)
    spread = rows.spread(a, b)
    z2 = np.broadcast_to(limits.of(a, b, spread) ** 2, gap.shape)
    excess = gap**2 - z2 * spread
    apart: npt.NDArray[np.bool_] = real & (excess > 0)
    if rows.x.dtype == np.float64:
        return apart
    # Whatever the narrow type, and the order in which a library sums, could have decided is decided by the difference.
    # The worst error of a sum is its length times the resolution, relative to the sum of the variances.
    error = rows.x.shape[1] * FLOAT32 * (variance[a, None] + variance[None, b])
    unsure = real & (np.abs(excess) <= z2 * error) & (rows.batch[a, None] == rows.batch[None, b])
    i, j = np.nonzero(unsure)
    for start in range(0, len(i), _PAIRS):
        k, m = i[start : start + _PAIRS], j[start : start + _PAIRS]
        change = rows.x[a[k]].astype(np.float64) - rows.x[b[m]]
        apart[k, m] = gap[k, m] ** 2 > z2[k, m] * np.einsum("pd,pd->p", change, change)
    return apart


def _sorted(estimates: Sequence[Estimate], values: Floats) -> _Sorted:
    lengths: dict[int, list[int]] = {}
    for i, e in enumerate(estimates):
        if e.draws is not None:
            lengths.setdefault(len(e.draws), []).append(i)
    kind = np.float64 if len(estimates) <= _FEW else np.float32
    x = np.zeros((len(estimates), max(lengths, default=1)), kind)
    variance = np.zeros(len(estimates))
    unbiased = np.sqrt([e.groups / (e.groups - 1) if e.groups > 1 else 1.0 for e in estimates])
    for length, members in lengths.items():
        for start in range(0, len(members), _BLOCK):
            block = members[start : start + _BLOCK]
            draws = np.stack([d for i in block if (d := estimates[i].draws) is not None]).astype(np.float64)
            draws -= np.nanmean(draws, 1, keepdims=True)
            draws = np.nan_to_num(draws, copy=False) * unbiased[block, None] / math.sqrt(max(length - 1, 1))
            variance[block] = np.einsum("id,id->i", draws, draws)
            x[block, :length] = draws
    numbers: dict[tuple[str, int], int] = {}
    batch = -1 - np.arange(len(estimates))
    for i, e in enumerate(estimates):
        if e.draws is not None and e.key:
            batch[i] = numbers.setdefault((e.key, len(e.draws)), len(numbers))
    freedom = np.array([e.groups - 1.0 if e.groups > 1 and e.draws is not None else math.inf for e in estimates])
    seeds = np.array([len(e.seeds) for e in estimates])
    y = np.zeros((len(estimates), max(seeds.max(), 1)))
    for row, e in zip(y, estimates, strict=True):
        if len(e.seeds) > 1:
            row[: len(e.seeds)] = np.subtract(e.seeds, np.mean(e.seeds)) / math.sqrt(len(e.seeds) * (len(e.seeds) - 1))
    return _Sorted(values, variance, batch, x, freedom, seeds, y)
