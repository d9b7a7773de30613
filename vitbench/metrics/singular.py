"""Angles between tokens and the singular defect direction of each block (Wang et al. 2024, arXiv 2407.16826)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, ratio
from vitbench.records.rows import Measure

KINDS = ("peak", "outlier", "normal")


def angle_counts(
    cosines: npt.NDArray[np.floating], norms: npt.NDArray[np.floating], threshold: float
) -> dict[str, npt.ArrayLike]:
    """Statistics of one image: |cosine| of its tokens after each block (l n), and the norms (n,) that tell outliers."""
    angles = np.degrees(np.arccos(np.clip(cosines.astype(np.float64), 0, 1)))
    outlier = norms > threshold
    return {
        "n_peak": 1.0,
        "angle_peak": angles[:, int(norms.argmax())],
        "n_outlier": float(outlier.sum()),
        "angle_outlier": angles[:, outlier].sum(1),
        "n_normal": float((~outlier).sum()),
        "angle_normal": angles[:, ~outlier].sum(1),
    }


def _angles(kind: str, sums: Mapping[str, Array]) -> Array:
    return ratio(sums[f"angle_{kind}"], np.asarray(sums[f"n_{kind}"], np.float64)[..., None])


def _at(kind: str, block: int | None) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    def value(sums: Mapping[str, Array], info: Mapping[str, Any]) -> Array:
        return np.asarray(_angles(kind, sums)[..., int(info["block"]) if block is None else block])

    return value


def _closest(kind: str) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    return lambda sums, _info: np.asarray(_angles(kind, sums).min(-1))


def further_measures(info: Mapping[str, Any]) -> tuple[Measure, ...]:
    """One of each kind per block."""
    return tuple(
        Measure(f"angle_{kind}_block_{i}", "degrees", True, _at(kind, i))
        for kind in KINDS
        for i in range(info["blocks"])
    )


MEASURES: tuple[Measure, ...] = (
    *(Measure(f"angle_{kind}", "degrees", True, _at(kind, None)) for kind in KINDS),
    *(Measure(f"angle_{kind}_closest_block", "degrees", True, _closest(kind)) for kind in KINDS),
)
