"""Saliency: max F-beta, IoU and pixel accuracy of one object mask per image, as TokenCut scores it (arXiv 2202.11539).

Precision and recall at 255 thresholds are averaged over images first; F comes from those means and the best threshold of the
whole split counts, so it is a function of sums over images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, percent, ratio
from vitbench.records.rows import Measure

THRESHOLDS = 255
BETA_SQUARED = 0.3

Mask = npt.NDArray[np.bool_]


def saliency_statistics(
    score: npt.NDArray[np.floating], found: Mask, truth: Mask, valid: Mask
) -> dict[str, npt.ArrayLike]:
    """Statistics of one image (all h w): scores in 0..1, the mask that was found, the true one, pixels that count.

    An image whose valid pixels hold no object counts in `n_without` and nowhere else.
    """
    truth, found = truth[valid], found[valid]
    nothing = np.zeros(THRESHOLDS)
    if not truth.any():
        return {"precision": nothing, "recall": nothing, "iou": 0.0, "correct": 0.0, "n": 0.0, "n_without": 1.0}
    levels = np.linspace(0, 1, THRESHOLDS, endpoint=False)
    passed = np.searchsorted(levels, score[valid], side="right")  # thresholds at or below the score
    of_all = _at_least(np.bincount(passed, minlength=THRESHOLDS + 1))
    of_truth = _at_least(np.bincount(passed[truth], minlength=THRESHOLDS + 1))
    return {
        "precision": np.nan_to_num(ratio(of_truth, of_all)),
        "recall": of_truth / truth.sum(),
        "iou": float((found & truth).sum() / (found | truth).sum()),
        "correct": float((found == truth).mean()),
        "n": 1.0,
        "n_without": 0.0,
    }


def _at_least(counts: npt.NDArray[np.integer]) -> Array:
    """How many scores reach each threshold, from how many pass exactly so many of them."""
    return np.asarray(counts[::-1].cumsum()[::-1][1:], np.float64)


def _max_f(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
    n = np.asarray(sums["n"], np.float64)[..., None]
    precision, recall = ratio(sums["precision"], n), ratio(sums["recall"], n)
    f = ratio((1 + BETA_SQUARED) * precision * recall, BETA_SQUARED * precision + recall)
    defined = np.isfinite(precision).all(-1)
    return np.where(defined, 100.0 * np.nan_to_num(f).max(-1), np.nan)


MEASURES: tuple[Measure, ...] = (
    Measure("maxF", "%", True, _max_f, per="n"),
    percent("IoU", "iou", "n"),
    percent("Acc", "correct", "n"),
)
