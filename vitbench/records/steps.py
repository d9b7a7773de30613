"""Where a series of measurements changed: steps by binary segmentation, tested with the paired uncertainty of the series.

Nights measured on the same units share their resamples, so the spread of a difference of means comes from replicates;
what runs scatter beyond that is taken from the residuals. Pure functions over arrays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitbench.records.inference import ALPHA, Estimate, Floats, two_sided_p

_Z = 1.959963984540054
_MIN_WITHOUT_REPLICATES = 4  # then only the scatter of the series itself speaks


@dataclass(frozen=True)
class Step:
    """The level changed by `delta` between points `at - 1` and `at`. p: two-sided, corrected for the places it could be."""

    at: int
    delta: float
    ci_low: float
    ci_high: float
    p: float


def find_steps(series: Sequence[Estimate], least: float = 0.0, alpha: float = ALPHA) -> list[Step]:
    """All steps of at least `least` that the data support, in order. Points must be of one measurement, oldest first."""
    values = np.array([e.value for e in series], np.float64)
    draws = _replicates(series)
    places: list[int] = []
    _split(values, draws, 0, len(values), least, alpha, places)
    edges = [0, *sorted(places), len(values)]
    found = [_step(values, draws, a, at, b) for a, at, b in zip(edges, edges[1:], edges[2:], strict=False)]
    return [step for step in found if abs(step.delta) >= least]


def _replicates(series: Sequence[Estimate]) -> Floats | None:
    """(points, d) replicates if all points were resampled alike, else None."""
    kept = [e.draws for e in series if e.draws is not None]
    alike = len(kept) == len(series) and len({(e.key, len(d)) for e, d in zip(series, kept, strict=True)}) == 1
    return np.stack(kept).astype(np.float64) if alike else None


def _split(
    values: Floats, draws: Floats | None, start: int, stop: int, least: float, alpha: float, places: list[int]
) -> None:
    n = stop - start
    if n < (2 if draws is not None else _MIN_WITHOUT_REPLICATES):
        return
    part = values[start:stop]
    left = np.arange(1, n)
    sums = np.cumsum(part)[:-1]
    deltas = (part.sum() - sums) / (n - left) - sums / left
    at = start + 1 + int(np.argmax(left * (n - left) * deltas**2))
    step = _step(values, draws, start, at, stop)
    if step.p < alpha and abs(step.delta) >= least:
        _split(values, draws, start, at, least, alpha, places)
        places.append(at)
        _split(values, draws, at, stop, least, alpha, places)


def _step(values: Floats, draws: Floats | None, start: int, at: int, stop: int) -> Step:
    """The change of level at a place, among the points from start to stop."""
    before, after = values[start:at], values[at:stop]
    delta = float(after.mean() - before.mean())
    variance = 0.0
    if draws is not None:
        variance = float(np.nanvar(draws[at:stop].mean(0) - draws[start:at].mean(0), ddof=1))
    n = stop - start
    scatter = 0.0
    if n > 2:
        residual = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum()) / (n - 2)
        scatter = residual * (1 / len(before) + 1 / len(after))
    noise = float(np.finfo(np.float32).eps) * float(np.abs(values[start:stop]).max())
    sd = math.sqrt(variance + scatter)
    p = min(1.0, (n - 1) * _p(delta, sd, noise, scatter, n - 2))
    return Step(at, delta, delta - _Z * sd, delta + _Z * sd, p)


def _p(delta: float, sd: float, noise: float, scatter: float, freedom: int) -> float:
    """Two-sided p; Student's t where the scatter of a few points is much of the variance (Welch 1947)."""
    return two_sided_p(delta, sd, noise, freedom * (sd * sd / scatter) ** 2 if scatter else math.inf)
