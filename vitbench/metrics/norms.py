"""Norms of patch tokens: how many are outliers after each block (Darcet et al. 2023, arXiv 2309.16588).

A percentile rule always reports the same share and cannot tell whether a backbone has artefacts; these rules can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, ratio
from vitbench.records.rows import Measure

Floats = npt.NDArray[np.floating]
RULES = ("mad", "3std", "cutoff")


def mad_threshold(norms: Floats, k_mad: float) -> npt.NDArray[np.float64]:
    """median + k_mad x MAD over the last axis; MAD is the plain median absolute deviation (not scaled to sigma)."""
    median = np.median(norms, axis=-1, keepdims=True)
    mad = np.median(np.abs(norms - median), axis=-1)
    return np.asarray(median[..., 0] + k_mad * mad, np.float64)


@dataclass(frozen=True)
class Thresholds:
    """Norms above which a token is an outlier, one per block (l,), by rule."""

    mad: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    cutoff: npt.NDArray[np.float64]

    @staticmethod
    def of(norms: Floats, k_mad: float, cutoff: float | None) -> Thresholds:
        """From reference norms l n (blocks by tokens); without a cut-off nothing is above it, and it is not reported."""
        wide = norms.astype(np.float64)
        fixed = np.full(len(norms), np.inf if cutoff is None else cutoff)
        return Thresholds(mad_threshold(wide, k_mad), wide.mean(1) + 3 * wide.std(1), fixed)


def norm_counts(norms: Floats, thresholds: Thresholds) -> dict[str, Array]:
    """Statistics of one image from its norms l n: tokens above each threshold and largest over median, each (l,)."""
    above = (thresholds.mad, thresholds.std, thresholds.cutoff)
    median = np.median(norms, axis=1)
    return {
        "n": np.ones(()),
        "n_tokens": np.array(float(norms.shape[1])),
        **{
            f"above_{rule}": (norms > t[:, None]).sum(1).astype(np.float64)
            for rule, t in zip(RULES, above, strict=True)
        },
        "max_over_median": np.nan_to_num(ratio(norms.max(1), median), nan=1.0),
    }


def _last(values: Array, info: Mapping[str, Any]) -> Array:
    return np.asarray(values[..., int(info["block"])])


def _worst(values: Array, _info: Mapping[str, Any]) -> Array:
    return np.asarray(values.max(-1))


def _outliers(rule: str, pick: Any, name: str) -> Measure:
    def value(sums: Mapping[str, Array], info: Mapping[str, Any]) -> Array:
        tokens = np.asarray(sums["n_tokens"], np.float64)
        if rule == "cutoff" and info.get("cutoff") is None:
            return np.full(tokens.shape, np.nan)
        return np.asarray(pick(100.0 * ratio(sums[f"above_{rule}"], tokens[..., None]), info))

    return Measure(name, "%", False, value)


def _peak(pick: Any, name: str) -> Measure:
    def value(sums: Mapping[str, Array], info: Mapping[str, Any]) -> Array:
        return np.asarray(pick(ratio(sums["max_over_median"], np.asarray(sums["n"])[..., None]), info))

    return Measure(name, "x", False, value)


def _all(picks: Sequence[tuple[str, Any]] = (("", _last), ("_worst_block", _worst))) -> tuple[Measure, ...]:
    return tuple(
        measure
        for suffix, pick in picks
        for measure in (
            *(_outliers(rule, pick, f"outliers_{rule}{suffix}") for rule in RULES),
            _peak(pick, f"max_over_median{suffix}"),
        )
    )


MEASURES: tuple[Measure, ...] = _all()
