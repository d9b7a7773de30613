"""Ratios of sums that are NaN, silently, where there is nothing to divide by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.records.rows import Measure

Array = npt.NDArray[np.float64]


def ratio(top: npt.ArrayLike, bottom: npt.ArrayLike) -> Array:
    """top / bottom elementwise (broadcast), NaN where bottom is not positive."""
    a, b = np.broadcast_arrays(np.asarray(top, np.float64), np.asarray(bottom, np.float64))
    out = np.full(a.shape, np.nan)
    np.divide(a, b, out=out, where=b > 0)
    return out


def mean_where(values: Array, where: npt.NDArray[np.bool_]) -> Array:
    """Mean over the last axis of the values marked, NaN where none is."""
    return ratio(np.where(where, values, 0.0).sum(-1), where.sum(-1))


def share(top: str, bottom: str, scale: float = 1.0) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    """The value of a measure that is scale x sum(top) / sum(bottom)."""

    def value(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
        return ratio(scale * np.asarray(sums[top]), sums[bottom])

    return value


def mean_of(
    name: str, unit: str, higher_is_better: bool, top: str, bottom: str = "n", scale: float = 1.0
) -> Measure:  # fmt: skip
    """A measure that is scale x sum(top) / sum(bottom): groups that have nothing of `bottom` are not behind it."""
    return Measure(name, unit, higher_is_better, share(top, bottom, scale), per=bottom)


def percent(name: str, top: str, bottom: str, higher_is_better: bool = True) -> Measure:
    """A measure in percent: 100 x sum(top) / sum(bottom)."""
    return mean_of(name, "%", higher_is_better, top, bottom, 100.0)
