"""Position leakage: the share of token variance that the place in the grid explains, on images it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vitbench.metrics.ratios import Array, ratio
from vitbench.records.rows import Measure

PARTS = ("position", "row", "column")


def _explained(part: str) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    def value(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
        total = np.asarray(sums["total"], np.float64)
        return 100.0 * ratio(total - sums[f"left_{part}"], total)

    return value


MEASURES: tuple[Measure, ...] = tuple(
    Measure("explained" if part == "position" else f"explained_{part}", "%", False, _explained(part)) for part in PARTS
)
