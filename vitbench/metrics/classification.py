"""Image classification: top-1 and top-5 accuracy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import percent
from vitbench.records.rows import Measure


def ranked(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Classes by falling score (..., k); equal scores rank by index, so that the result is the same everywhere."""
    return np.argsort(-scores, axis=-1, kind="stable")


def hits(scores: npt.NDArray[np.floating], label: int) -> dict[str, float]:
    """Statistics of one image from its class scores (k,). Top-5 counts only where there are more than five classes."""
    order = ranked(scores)
    many = len(scores) > 5
    return {
        "n": 1.0,
        "correct": float(order[0] == label),
        "n_top5": float(many),
        "correct_top5": float(many and label in order[:5]),
    }


MEASURES: tuple[Measure, ...] = (
    percent("top1", "correct", "n"),
    percent("top5", "correct_top5", "n_top5"),
)
