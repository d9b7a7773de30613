"""One L2-regularised logistic regression per class, for images that show several; one C for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitbench.errors import DataError
from vitbench.heads.logistic import regression

Floats = npt.NDArray[np.float64]
Marks = npt.NDArray[np.int8]
Score = Callable[[Floats, Marks], float]


@dataclass(frozen=True)
class OneVsRest:
    """Scores of all classes. A class that train does not both show and lack has no classifier: its scores are all zero."""

    weight: Floats  # c k
    bias: Floats  # k
    fitted: npt.NDArray[np.bool_]  # k
    chosen_c: float
    unconverged: int  # fits that stopped at the iteration limit

    def __call__(self, x: Floats) -> Floats:
        """x: n c -> scores n k."""
        return np.asarray(x @ self.weight + self.bias, np.float64)


@dataclass(frozen=True)
class Stop:
    """Where L-BFGS stops: iterations, and the largest component of the gradient."""

    max_iter: int
    tolerance: float


def fit_classes(x: Floats, marks: Marks, c: float, stop: Stop) -> OneVsRest:
    """All classes with the same C. x n c; marks n k: 1 present, 0 absent, -1 not fitted on."""
    classes = marks.shape[1]
    weight, bias, fitted = np.zeros((x.shape[1], classes)), np.zeros(classes), np.zeros(classes, bool)
    unconverged = 0
    for number in np.flatnonzero(separable(marks)):
        kept = marks[:, number] >= 0
        model = regression(x[kept], marks[kept, number], c, stop.max_iter, stop.tolerance)
        weight[:, number], bias[number], fitted[number] = model.coef_[0], model.intercept_[0], True
        unconverged += int(model.n_iter_.max() >= stop.max_iter)
    return OneVsRest(weight, bias, fitted, c, unconverged)


def fit_one_vs_rest(
    x: Floats, marks: Marks, held_out: npt.NDArray[np.bool_], grid: Sequence[float], stop: Stop, score: Score,
    unsure_absent: bool = False,
) -> OneVsRest:  # fmt: skip
    """Choose C by the score of the held-out rows (ties: the smallest), refit on all. x n c, marks n k, held_out n.

    marks: 1 present, 0 absent, -1 unsure; `unsure_absent` fits unsure ones as absent instead of leaving them out. The score
    is given them as they are. Raises DataError where no class is both present and absent.
    """
    fitted_on = np.maximum(marks, 0) if unsure_absent else marks
    if not separable(fitted_on).any():
        raise DataError("no class is shown by some images of the train split and not by others", "give more images")
    best, best_score, unconverged = min(grid), -math.inf, 0
    if separable(fitted_on[~held_out]).any():
        for c in sorted(grid):
            head = fit_classes(x[~held_out], fitted_on[~held_out], c, stop)
            unconverged += head.unconverged
            found = score(head(x[held_out]), marks[held_out])
            if found > best_score:  # never for NaN: nothing to choose by
                best, best_score = c, found
    head = fit_classes(x, fitted_on, best, stop)
    return OneVsRest(head.weight, head.bias, head.fitted, best, unconverged + head.unconverged)


def separable(marks: Marks) -> npt.NDArray[np.bool_]:
    """Which classes are both present and absent in marks n k: (k,)."""
    return np.asarray((marks == 1).any(0) & (marks == 0).any(0), bool)
