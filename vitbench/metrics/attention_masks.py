"""Attention maps as masks: IoU of object and background over the split, pixel accuracy, and average precision per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, percent, ratio
from vitbench.records.rows import Measure

COUNTS = ("tp", "fp", "fn", "tn", "ap")


def mask_statistics(
    scores: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_], thresholds: npt.NDArray[np.floating]
) -> dict[str, npt.ArrayLike]:
    """Statistics of one image: scores of its labelled pixels by each of k maps (k p), which are of an object (p,).

    A pixel is found by a map if its score is above the map's threshold (k,). An image without objects counts in
    `n_without` and nowhere else.
    """
    if not truth.any():
        return {"n": 0.0, "n_without": 1.0, **{name: np.zeros(len(scores)) for name in COUNTS}}
    found = scores > thresholds[:, None]
    return {
        "tp": (found & truth).sum(1),
        "fp": (found & ~truth).sum(1),
        "fn": (~found & truth).sum(1),
        "tn": (~found & ~truth).sum(1),
        "ap": np.array([average_precision(s, truth) for s in scores]),
        "n": 1.0,
        "n_without": 0.0,
    }


def average_precision(scores: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_]) -> float:
    """Area under the precision-recall steps; pixels of equal score are found together."""
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = truth[order].cumsum()[ends]
    steps = np.diff(hits, prepend=0) / max(int(truth.sum()), 1)
    return float((steps * hits / (ends + 1)).sum())


Values = Callable[[Mapping[str, Array]], Array]


def _iou(sums: Mapping[str, Array]) -> Array:
    wrong = np.add(sums["fp"], sums["fn"])
    return 50.0 * (ratio(sums["tp"], sums["tp"] + wrong) + ratio(sums["tn"], sums["tn"] + wrong))


def _accuracy(sums: Mapping[str, Array]) -> Array:
    right = np.add(sums["tp"], sums["tn"])
    return 100.0 * ratio(right, right + sums["fp"] + sums["fn"])


def _precision(sums: Mapping[str, Array]) -> Array:
    return 100.0 * ratio(sums["ap"], np.asarray(sums["n"], np.float64)[..., None])


_ALL: tuple[tuple[str, Values], ...] = (("mIoU", _iou), ("Acc", _accuracy), ("mAP", _precision))


def _measure(name: str, values: Values, pick: Callable[[Array], Array]) -> Measure:
    def value(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
        return np.asarray(pick(values(sums)))

    return Measure(name, "%", True, value, per="n")


def further_measures(info: Mapping[str, Any]) -> tuple[Measure, ...]:
    """One of each kind per map, where there are several; where the best of some heads stands for an image, the mean of its IoU."""
    if "heads" in info:
        return (percent("Jaccard", "iou", "n"),)
    count = int(info["maps"])
    maps = range(count) if count > 1 else ()
    return tuple(_measure(f"{name}_register_{i}", values, _map(i)) for name, values in _ALL for i in maps)


def _map(i: int) -> Callable[[Array], Array]:
    return lambda values: np.asarray(values[..., i])


MEASURES: tuple[Measure, ...] = tuple(_measure(name, values, lambda v: v.mean(-1)) for name, values in _ALL)
