"""Classification from one token of an image, by kind of token: accuracy, and how much it varies with the token drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vitbench.metrics.ratios import Array, percent, ratio
from vitbench.records.rows import Measure

KINDS = ("outlier", "normal", "cls", "register")


def _by_draw(kind: str, sums: Mapping[str, Array]) -> Array:
    return 100.0 * ratio(sums[f"correct_{kind}"], np.asarray(sums[f"n_{kind}"], np.float64)[..., None])


def _mean(kind: str) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    return lambda sums, _info: np.asarray(_by_draw(kind, sums).mean(-1))


def _deviation(kind: str) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    return lambda sums, _info: np.asarray(_by_draw(kind, sums).std(-1))


MEASURES: tuple[Measure, ...] = (
    *(Measure(f"top1_{kind}", "%", True, _mean(kind)) for kind in KINDS),
    *(Measure(f"top1_{kind}_std", "%", False, _deviation(kind)) for kind in KINDS if kind != "cls"),
    percent("coverage", "covered", "n_outlier", higher_is_better=False),
)
