"""Rows: sufficient statistics per unit, and the measures computed from their sums. NumPy only.

Every measure is a function of *sums over units* of the statistics, so that any of them can be bootstrapped by weighting units:
`measure.value({name: weights @ stats[name]})`. One that ranks units (average precision) reads `Sums`: statistics and weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.errors import RecordError

Array = npt.NDArray[np.float64]


class Sums(dict[str, Array]):
    """Sums over units by name, and what they were made from, for measures that rank units.

    stats: name -> (n,) or (n, k); weights: how often each unit counts, (n,) or (draws, n).
    """

    def __init__(
        self, sums: Mapping[str, Array], stats: Mapping[str, Array], weights: Callable[[], Array]
    ) -> None:  # fmt: skip
        super().__init__(sums)
        self.stats = stats
        self._weights = weights

    @cached_property
    def weights(self) -> Array:
        return self._weights()


@dataclass(frozen=True)
class Rows:
    """n units. unit_id: image, pair, clip or query; group_id: what the bootstrap resamples (image, video, scene).

    stats: name -> (n,) or (n, k) float64 sufficient statistics. info: constants the measures need (class names, groups).
    """

    unit_id: tuple[str, ...]
    group_id: tuple[str, ...]
    stats: Mapping[str, Array]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.unit_id)
        if len(self.group_id) != n or any(len(s) != n for s in self.stats.values()):
            raise RecordError(f"rows: {n} units but {len(self.group_id)} groups and stats of other lengths")

    def __len__(self) -> int:
        return len(self.unit_id)

    def sums(self, weights: Array | None = None) -> Sums:
        """Sums over units; with weights (draws, n) one sum per draw: (draws,) or (draws, k)."""
        if weights is None:
            sums = {name: np.asarray(s, np.float64).sum(0) for name, s in self.stats.items()}
            return Sums(sums, self.stats, lambda: np.ones(len(self)))
        return Sums(
            {name: weights @ np.asarray(s, np.float64) for name, s in self.stats.items()}, self.stats, lambda: weights
        )

    @staticmethod
    def concat(parts: list[Rows]) -> Rows:
        """Rows one after another; they must have the same statistics and constants."""
        if not parts:
            raise RecordError("no rows to join: the split is empty")
        stats = {k: np.concatenate([p.stats[k] for p in parts]) for k in parts[0].stats}
        units = tuple(u for p in parts for u in p.unit_id)
        return Rows(units, tuple(g for p in parts for g in p.group_id), stats, parts[0].info)


@dataclass(frozen=True)
class Measure:
    """A metric: `value(sums, info)` works on sums of any leading shape (..., k) and gives (...). NaN where undefined.

    no_bootstrap: why there is no interval (for quantities that are not functions of sums of units). per: the statistic it
    is a mean over; groups without any of it are resampled like all others, but tell nothing.
    """

    name: str
    unit: str
    higher_is_better: bool
    value: Callable[[Mapping[str, Array], Mapping[str, Any]], Array]
    no_bootstrap: str = ""
    per: str = ""
