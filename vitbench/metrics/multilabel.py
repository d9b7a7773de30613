"""Which of several classes are present: average precision per class, and its mean (Everingham et al. 2010).

A class ranks all images of the split, so its precision is no mean over images: rows keep the scores, and resamples rank again.
Images of equal score come in together, so that no result depends on their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, mean_where, ratio
from vitbench.records.rows import Measure, Sums

POINTS = 10  # steps of recall of the eleven points
UNSURE = -1
KINDS = ("voc07", "voc07_from_one", "area", "voc10")
"""How precision over recall becomes one number, see `average_precision`."""


def average_precision(
    scores: npt.NDArray[np.floating], marks: npt.NDArray[np.floating], weights: Array, kind: str = "voc07"
) -> Array:
    """Average precision (...) of one class as a fraction; NaN where no image that counts shows it.

    scores n; marks n: 1 present, 0 absent, -1 unsure (left out); weights (..., n): how often each image counts.
    voc07: mean over recalls 0, 0.1, ..., 1 of the best precision at that recall or beyond; voc07_from_one: the same with
    precision 1 at recall 0, whatever comes first (scikit-learn's curve has such a point); area: precision summed over steps of
    recall (scikit-learn's); voc10: that of the best precision at that recall or beyond.
    """
    counting = np.flatnonzero(marks != UNSURE)
    order = counting[np.argsort(-scores[counting], kind="stable")]
    present = marks[order] == 1
    if not present.any():
        return np.full(weights.shape[:-1], np.nan)
    # Between two images that show the class precision only falls: it is read where one, or one of equal score, comes in.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    known = np.cumsum(present)[last]
    rises = np.diff(known, prepend=0) > 0
    last, known = last[rises], known[rises]
    found = np.cumsum(weights[..., order[present]], axis=-1)[..., known - 1]
    steps = np.add.reduceat(weights[..., order[: last[-1] + 1]], np.append(0, last[:-1] + 1), axis=-1)
    precision = np.nan_to_num(ratio(found, np.cumsum(steps, axis=-1)))
    total = found[..., -1]
    best = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    if kind in ("voc07", "voc07_from_one"):
        return np.where(total > 0, _eleven_points(found, total, best, kind == "voc07_from_one"), np.nan)
    gained = np.diff(found, axis=-1, prepend=0.0)
    return ratio((gained * (best if kind == "voc10" else precision)).sum(-1), total)


def _eleven_points(found: Array, total: Array, best: Array, from_one: bool) -> Array:
    """Mean best precision at recalls j / 10, compared as whole numbers: 3 of 10 found is a recall of 0.3."""
    values = []
    for j in range(POINTS + 1):
        first = (POINTS * found >= j * total[..., None]).argmax(-1)
        values.append(np.take_along_axis(best, first[..., None], axis=-1)[..., 0])
    if from_one:
        values[0] = np.ones_like(values[0])
    return np.asarray(np.mean(values, axis=0), np.float64)


def mean_average_precision(
    scores: npt.NDArray[np.floating], marks: npt.NDArray[np.floating], kind: str = "voc07"
) -> float:
    """Mean over the classes that some image shows, as a fraction; scores and marks n k. NaN where there is none."""
    ones = np.ones(len(scores))
    values = np.array([average_precision(s, m, ones, kind) for s, m in zip(scores.T, marks.T, strict=True)])
    return float(mean_where(np.nan_to_num(values), np.isfinite(values)))


def _class_precision(sums: Mapping[str, Array], info: Mapping[str, Any], number: int) -> Array:
    assert isinstance(sums, Sums), "a class ranks units, which sums alone do not tell"
    scores, marks = (np.asarray(sums.stats[name], np.float64)[:, number] for name in ("score", "mark"))
    return average_precision(scores, marks, sums.weights, info.get("ap", KINDS[0]))


def _mean(sums: Mapping[str, Array], info: Mapping[str, Any]) -> Array:
    classes = range(np.asarray(sums["score"]).shape[-1])
    values = np.stack([_class_precision(sums, info, number) for number in classes], axis=-1)
    return 100.0 * mean_where(np.nan_to_num(values), np.isfinite(values))


def further_measures(info: Mapping[str, Any]) -> tuple[Measure, ...]:
    """One per class."""

    def of_class(number: int, name: str) -> Measure:
        return Measure(f"AP_{name}", "%", True, lambda sums, info: 100.0 * _class_precision(sums, info, number))

    return tuple(of_class(number, name) for number, name in enumerate(info["classes"]))


MEASURES: tuple[Measure, ...] = (Measure("mAP", "%", True, _mean),)
