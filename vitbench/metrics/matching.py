"""Naming clusters (or predicted classes) by true classes, from the confusion of a whole split."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Ints = npt.NDArray[np.int64]


def matched_classes(matrix: Ints, leftover: int = 0) -> Ints:
    """Hungarian matching by IoU: matrix (classes, clusters) -> true class of each cluster; the unmatched get `leftover`."""
    intersection = matrix.astype(np.float64)
    union = matrix.sum(0)[None] + matrix.sum(1)[:, None] - intersection
    iou = np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)
    truth, predicted = linear_sum_assignment(-iou)
    out = np.full(matrix.shape[1], leftover, np.int64)
    out[predicted] = truth
    return out


def majority_classes(matrix: Ints) -> Ints:
    """Many to one by precision: every cluster is the class that most of its pixels have; ties go to the lowest class."""
    return np.asarray(matrix.argmax(0), np.int64)
