"""Similarity of patches and CLS after each block: its mean and its spread within an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, ratio
from vitbench.records.rows import Measure

KINDS = ("cosine", "spread")


def similarity_counts(cosines: npt.NDArray[np.floating]) -> dict[str, npt.ArrayLike]:
    """Statistics of one image from the cosines of its patches after each block, l n."""
    wide = cosines.astype(np.float64)
    return {"n": 1.0, "cosine": wide.mean(1), "spread": wide.std(1)}


def _at(kind: str, block: int | None) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    def value(sums: Mapping[str, Array], info: Mapping[str, Any]) -> Array:
        return ratio(sums[kind][..., int(info["block"]) if block is None else block], sums["n"])

    return value


def further_measures(info: Mapping[str, Any]) -> tuple[Measure, ...]:
    """One of each kind per block."""
    return tuple(
        Measure(f"{kind}_block_{i}", "", kind == "spread", _at(kind, i))
        for kind in KINDS
        for i in range(info["blocks"])
    )


MEASURES: tuple[Measure, ...] = tuple(Measure(kind, "", kind == "spread", _at(kind, None)) for kind in KINDS)
