"""What the numbers support: bootstrap over groups, paired differences, adjusted p values, rank intervals, recovery.

Resamples are common random numbers: their seed is a digest of the group ids, so two cells measured on the same units
were resampled alike, and the paired difference is `draws_a - draws_b`, without their rows. Pure functions over arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from vitbench.identity import digest
from vitbench.records.rows import Measure, Rows, Sums

Floats = npt.NDArray[np.float64]
Draws = npt.NDArray[np.float32]

LEVEL = 0.95
ALPHA = 0.05
MIN_GAP_POINTS = 2.0
_BLOCK_BYTES = 32 << 20
FLOAT32 = float(np.finfo(np.float32).eps)
_Z = 1.959963984540054
_MIN_DEFINED = 0.9  # share of resamples in which a measure must be defined for an interval to mean something


@dataclass(frozen=True)
class Estimate:
    """A number and its bootstrap replicates. draws: (d,) or None; estimates with the same `key` were resampled alike.

    groups: how many groups tell anything of it (0: unknown). seeds: the values of the seeds it is the mean of, if several.
    """

    value: float
    draws: Draws | None = None
    key: str = ""
    groups: int = 0
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class MetricValue:
    """A metric of one cell with its interval; `value` is None where undefined, `note` says why anything is missing."""

    value: float | None
    unit: str
    higher_is_better: bool
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    note: str = ""
    draws: Draws | None = None
    draws_key: str = ""


@dataclass(frozen=True)
class Difference:
    """a - b in the metric's unit with its paired interval and two-sided p; None with a `note` where there is none."""

    delta: float
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Recovery:
    """(repaired - defective) / (clean - defective): 0 nothing won back, 1 all; None with the reason."""

    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    reason: str = ""


def draws_key(group_ids: Sequence[str], draws: int, seed: int) -> str:
    """Digest of what determines the resamples: the set of groups, the number of draws and the seed."""
    return digest({"groups": sorted(set(group_ids)), "draws": draws, "seed": seed})


def resamples(key: str, groups: int, draws: int) -> Iterator[Floats]:
    """Multinomial weights (block, groups), `draws` rows in all; blocks bound memory and depend on `groups` alone."""
    rng = np.random.Generator(np.random.PCG64(int(key, 16)))
    block = max(1, min(256, _BLOCK_BYTES // (8 * groups)))
    for start in range(0, draws, block):
        size = min(block, draws - start)
        picked = rng.integers(0, groups, (size, groups)) + groups * np.arange(size)[:, None]
        counts = np.bincount(picked.ravel(), minlength=size * groups)
        yield counts.reshape(size, groups).astype(np.float64)


def group_sums(rows: Rows) -> dict[str, Floats]:
    """Statistics summed within groups, groups in sorted order: (groups,) or (groups, k) each."""
    inverse = _group_of_unit(rows)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.diff(inverse[order], prepend=-1))
    return {name: np.add.reduceat(np.asarray(s, np.float64)[order], starts, axis=0) for name, s in rows.stats.items()}


def _group_of_unit(rows: Rows) -> npt.NDArray[np.int64]:
    """Which of the groups, in sorted order, each unit is in: (n,)."""
    return np.asarray(np.unique(np.asarray(rows.group_id), return_inverse=True)[1], np.int64)


def summarise(rows: Rows, measures: Sequence[Measure], draws: int = 1000, seed: int = 0) -> dict[str, MetricValue]:
    """Every measure over all rows, with a 95 % percentile interval from `draws` resamples of the groups.

    `n` is how many groups tell anything of a measure: tests on few of many must not have the freedom of many.
    """
    sums = rows.sums()
    values = {m.name: float(m.value(sums, rows.info)) for m in measures}
    replicated = [m for m in measures if not m.no_bootstrap]
    groups = len(set(rows.group_id))
    key = draws_key(rows.group_id, draws, seed)
    replicates: dict[str, Floats] = {}
    if groups > 1 and draws > 1 and replicated:
        replicates = _replicate(rows, replicated, key, groups, draws)
    behind = _groups_behind(rows, measures)
    return {m.name: _metric_value(m, values[m.name], replicates.get(m.name), behind[m.per], key) for m in measures}


def _groups_behind(rows: Rows, measures: Sequence[Measure]) -> dict[str, int]:
    """How many groups have anything of the statistic that a measure is a mean over; all, where it names none."""
    per = {m.per for m in measures} - {""}
    sums = group_sums(replace(rows, stats={name: rows.stats[name] for name in per})) if per else {}
    counts = {name: int((s > 0).reshape(len(s), -1).any(1).sum()) for name, s in sums.items()}
    return {"": len(set(rows.group_id)), **counts}


def _replicate(rows: Rows, measures: Sequence[Measure], key: str, groups: int, draws: int) -> dict[str, Floats]:
    stats, group = group_sums(rows), _group_of_unit(rows)
    parts: dict[str, list[Floats]] = {m.name: [] for m in measures}
    for weights in resamples(key, groups, draws):
        sums = Sums(
            {name: weights @ s for name, s in stats.items()}, rows.stats, partial(np.take, weights, group, axis=1)
        )
        for m in measures:
            parts[m.name].append(np.asarray(m.value(sums, rows.info), np.float64))
    return {name: np.concatenate(blocks) for name, blocks in parts.items()}


def _metric_value(m: Measure, value: float, draws: Floats | None, groups: int, key: str) -> MetricValue:
    if not math.isfinite(value):
        why = f"undefined: {m.per} is 0 on all units" if m.per and not groups else "undefined on these units"
        return MetricValue(None, m.unit, m.higher_is_better, n=groups, note=why)
    if m.no_bootstrap:
        return MetricValue(value, m.unit, m.higher_is_better, n=groups, note=f"no interval: {m.no_bootstrap}")
    if draws is None:
        return MetricValue(value, m.unit, m.higher_is_better, n=groups, note="no interval: fewer than two groups")
    interval = percentile_interval(draws)
    if interval is None:
        note = "no interval: undefined in many resamples"
        return MetricValue(value, m.unit, m.higher_is_better, n=groups, note=note)
    return MetricValue(value, m.unit, m.higher_is_better, *interval, groups, "", draws.astype(np.float32), key)


def percentile_interval(draws: npt.NDArray[np.floating], level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile interval of replicates (d,); None where more than a tenth of them are undefined."""
    finite = np.sort(draws[np.isfinite(draws)]).astype(np.float64)
    if len(finite) < max(2, _MIN_DEFINED * len(draws)):
        return None
    return _interval(finite, level)


def _interval(ordered: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval of sorted finite replicates, with linear interpolation."""
    last = len(ordered) - 1
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        at = share * last
        low = int(at)
        start, stop = float(ordered[low]), float(ordered[min(low + 1, last)])
        ends.append(start + (at - low) * (stop - start))
    return ends[0], ends[1]


def paired(a: Estimate, b: Estimate) -> tuple[Floats, Floats] | str:
    """The replicates of both if they were resampled alike, else why they cannot be paired."""
    if a.draws is None or b.draws is None:
        return "no interval: no resamples"
    if a.key != b.key or len(a.draws) != len(b.draws):
        return "no interval: measured on different units"
    return a.draws.astype(np.float64), b.draws.astype(np.float64)


def paired_difference(a: Estimate, b: Estimate) -> Difference:
    """a - b with its interval and p: Student's t on the replicates' spread, the interval a percentile one, as much wider.

    p is never below 2^(1 - groups), the least a sign-flip test on that many groups could give.
    """
    pair = paired(a, b)
    if isinstance(pair, str):
        return Difference(a.value - b.value, note=pair)
    change = pair[0] - pair[1]
    interval = percentile_interval(change)
    if interval is None:
        return Difference(a.value - b.value, note="no interval: undefined in many resamples")
    return _tested(a, b, interval, float(np.std(change[np.isfinite(change)], ddof=1)))


def _tested(a: Estimate, b: Estimate, interval: tuple[float, float] | None, sd: float) -> Difference:
    """The difference with its p, given the percentile interval and the standard deviation of its replicates."""
    delta = a.value - b.value
    # Stored draws are float32: differences below its resolution are rounding, not signal.
    noise = FLOAT32 * max(abs(a.value), abs(b.value))
    groups = min(a.groups or 1 << 30, b.groups or 1 << 30)
    seeds = np.subtract(a.seeds, b.seeds) if a.seeds and len(a.seeds) == len(b.seeds) else ()
    error = standard_error(sd, groups, seeds)
    low, high = error.widened(delta, interval) if interval else (None, None)
    p = two_sided_p(delta, error.size, noise, error.freedom)
    return Difference(delta, low, high, max(p, 2.0 ** (1 - min(groups, 1000))))


@dataclass(frozen=True)
class StandardError:
    """The size of a standard error, how many degrees of freedom it has, and how much of it the bootstrap saw (sd)."""

    size: float
    freedom: float
    sd: float

    def widened(self, value: float, interval: tuple[float, float]) -> tuple[float, float]:
        """A percentile interval made as much wider about the value as Student's t on this error is than a normal on sd."""
        if math.isinf(self.freedom) or not self.sd:
            return interval
        factor = t_quantile((1 + LEVEL) / 2, self.freedom) * self.size / (_Z * self.sd)
        return value - factor * (value - interval[0]), value + factor * (interval[1] - value)


def standard_error(sd: float, groups: int, seeds: Sequence[float] | Floats = ()) -> StandardError:
    """From the spread of replicates, and the values of the seeds where it is a mean of several.

    The bootstrap divides by n where n - 1 is unbiased. Degrees of freedom are Satterthwaite's (1946) of two variances: one
    from groups, one from seeds. With a normal on sd, three seeds that differ told equal cells apart one time in six.
    """
    variance = sd * sd * groups / max(groups - 1, 1)
    if not 1 < groups < 1 << 30 or variance == 0.0:
        return StandardError(sd, math.inf, sd)
    share = min(float(np.var(seeds, ddof=1)) / len(seeds) / variance, 1.0) if len(seeds) > 1 else 0.0
    freedom = 1 / ((1 - share) ** 2 / (groups - 1) + share**2 / max(len(seeds) - 1, 1))
    return StandardError(math.sqrt(variance), freedom, sd)


def interval_of(estimate: Estimate) -> tuple[float, float] | None:
    """The 95 % interval of an estimate by itself, of its replicates; None where it has none."""
    interval = None if estimate.draws is None else percentile_interval(estimate.draws)
    if interval is None or estimate.draws is None:
        return None
    sd = float(np.nanstd(estimate.draws, ddof=1, dtype=np.float64))
    return standard_error(sd, estimate.groups, estimate.seeds).widened(estimate.value, interval)


@lru_cache(maxsize=1024)  # most rows of a table have as many groups
def t_quantile(share: float, freedom: float) -> float:
    """Of Student's t."""
    from scipy.special import stdtrit  # where it is needed: loading it takes longer than most commands

    return float(stdtrit(freedom, share))


def paired_differences(
    pairs: Sequence[tuple[Estimate, Estimate]], intervals: Sequence[bool] | None = None
) -> list[Difference]:
    """`paired_difference` of many pairs, by blocks: the same numbers, an order of magnitude sooner.

    intervals: which pairs need one (default: all); the others are tested only.
    """
    asked = np.ones(len(pairs), np.bool_) if intervals is None else np.array(intervals, np.bool_)
    out: list[Difference | None] = [None] * len(pairs)
    by_length: dict[int, list[int]] = {}
    for i, (a, b) in enumerate(pairs):
        if a.draws is not None and b.draws is not None and a.key == b.key and len(a.draws) == len(b.draws):
            by_length.setdefault(len(a.draws), []).append(i)
    for length, members in by_length.items():
        size = max(1, _BLOCK_BYTES // (8 * max(length, 1)))
        for start in range(0, len(members), size):
            block = members[start : start + size]
            change = np.stack([d for i in block if (d := pairs[i][0].draws) is not None]).astype(np.float64)
            change -= np.stack([d for i in block if (d := pairs[i][1].draws) is not None])
            whole = np.isfinite(change).all(axis=1) if length > 1 else np.zeros(len(block), np.bool_)
            kept = np.flatnonzero(whole)
            spread = np.std(change[kept], axis=1, ddof=1)
            shown = kept[asked[block][kept]]
            ends = dict(zip(shown, map(_interval, np.sort(change[shown], axis=1)), strict=True))
            for k, sd in zip(kept, spread, strict=True):
                out[block[k]] = _tested(*pairs[block[k]], ends.get(k), float(sd))
    return [paired_difference(*pair) if d is None else d for pair, d in zip(pairs, out, strict=True)]


def two_sided_p(delta: float, sd: float, noise: float = 0.0, freedom: float = math.inf) -> float:
    """P(|t| >= |delta| / sd), normal by default; no difference beyond `noise` is p = 1, one without spread p = 0."""
    if abs(delta) <= noise:
        return 1.0
    if sd <= noise:
        return 0.0
    if math.isinf(freedom):
        return math.erfc(abs(delta) / sd / math.sqrt(2))
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(delta) / sd))


def benjamini_hochberg(p: Sequence[float]) -> Floats:
    """Adjusted p values controlling the false discovery rate (Benjamini and Hochberg 1995)."""
    values = np.asarray(p, np.float64)
    n = len(values)
    order = np.argsort(values)[::-1]
    scaled = values[order] * n / np.arange(n, 0, -1)
    out = np.empty(n)
    out[order] = np.minimum(np.minimum.accumulate(scaled), 1.0)
    return out


def recovery(
    repaired: Estimate, defective: Estimate, clean: Estimate, min_gap: float, higher_is_better: bool = True
) -> Recovery:
    """Share of the damage that a repair undoes. Null unless clean - defective is significant and at least `min_gap`.

    min_gap is in the metric's unit: two points of a percentage.
    """
    gap = paired_difference(clean, defective)
    if gap.p is None:
        return Recovery(None, reason=f"clean and defective cannot be compared ({gap.note})")
    size = gap.delta if higher_is_better else -gap.delta
    if gap.p >= ALPHA or size < min_gap:
        return Recovery(None, reason="the defect costs too little here (not significant, or under 2 points)")
    value = (repaired.value - defective.value) / gap.delta
    top, bottom = paired(repaired, defective), paired(clean, defective)
    if isinstance(top, str) or isinstance(bottom, str):
        return Recovery(None, reason="repaired and defective cannot be compared (measured on different units)")
    won, lost = top[0] - top[1], bottom[0] - bottom[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = percentile_interval(won / lost)
    if interval is None:
        return Recovery(value)
    # How sure a ratio is, its numerator tells at the ratio that was found (Fieller).
    seeds = [np.asarray(e.seeds) for e in (repaired, defective, clean)]
    alike = len({len(s) for s in seeds}) == 1
    rest = (seeds[0] - seeds[1]) - value * (seeds[2] - seeds[1]) if alike else ()
    error = standard_error(float(np.nanstd(won - value * lost, ddof=1)), repaired.groups, rest)
    return Recovery(value, *error.widened(value, interval))


def combine_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over seeds (in a fixed order, so that cells pair seed by seed); replicates also resample the seeds.

    Nested: each replicate weights the seeds at random (the same weights for any cell with as many seeds) and takes
    their replicates of that number. Deviations are scaled by sqrt(s / (s - 1)), so that the variance between s seeds is
    unbiased.
    """
    if len(estimates) == 1:
        return estimates[0]
    value = float(np.mean([e.value for e in estimates]))
    groups = min(e.groups for e in estimates)
    stacked = [e.draws for e in estimates if e.draws is not None]
    if len(stacked) < len(estimates) or len({len(d) for d in stacked}) > 1:
        return Estimate(value, groups=groups)
    s, d = len(estimates), len(stacked[0])
    seeds = tuple(e.value for e in estimates)
    key = digest({"seeds": [e.key for e in estimates]})
    rng = np.random.Generator(np.random.PCG64([s, d]))
    weights = rng.multinomial(s, np.full(s, 1 / s), size=d) / s
    weights = 1 / s + math.sqrt(s / (s - 1)) * (weights - 1 / s)
    draws = (weights.T * np.stack(stacked)).sum(0).astype(np.float32)
    return Estimate(value, draws, key, groups, seeds)
