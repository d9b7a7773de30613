"""L2-regularised multinomial logistic regression (scikit-learn, L-BFGS, float64), C chosen on a slice of train."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from vitbench.errors import DataError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_THREADED_SIZE = 10_000_000  # features


@dataclass(frozen=True)
class LogisticHead:
    """Scores over all classes 0..k-1; classes that were not in train have minus infinity."""

    weight: Floats  # c k
    bias: Floats  # k
    chosen_c: float
    unconverged: int  # fits that stopped at the iteration limit

    def __call__(self, x: Floats) -> Floats:
        """x: n c -> scores n k."""
        return np.asarray(x @ self.weight + self.bias, np.float64)


def regression(x: Floats, y: npt.NDArray[np.integer], c: float, max_iter: int, tolerance: float) -> LogisticRegression:
    """The fitted model of scikit-learn; one that stops at the iteration limit says so in `n_iter_` only."""
    model = LogisticRegression(C=c, max_iter=max_iter, tol=tolerance)
    # Thousands of tiny products: more BLAS threads only wait for each other (16 x the time on two busy cores).
    with warnings.catch_warnings(), threadpool_limits(1 if x.size < _THREADED_SIZE else None):
        warnings.simplefilter("ignore", ConvergenceWarning)  # counted by the caller and written into the record
        return model.fit(x, y)


def fit_logistic(
    x: Floats, y: Ints, held_out: npt.NDArray[np.bool_], grid: Sequence[float], n_classes: int,
    max_iter: int, tolerance: float,
) -> LogisticHead:  # fmt: skip
    """Choose C by accuracy on the held-out rows (ties: the smallest), refit on all. x n c, y n, held_out n.

    Raises DataError where train holds fewer than two classes.
    """
    if len(np.unique(y)) < 2:
        raise DataError("the train split holds one class only", "give images of at least two classes")
    best, best_accuracy, unconverged = min(grid), -1.0, 0
    inner, slice_ = ~held_out, held_out
    if len(np.unique(y[inner])) >= 2:
        for c in sorted(grid):
            model = regression(x[inner], y[inner], c, max_iter, tolerance)
            unconverged += int(model.n_iter_.max() >= max_iter)
            accuracy = float((model.predict(x[slice_]) == y[slice_]).mean())
            if accuracy > best_accuracy:
                best, best_accuracy = c, accuracy
    model = regression(x, y, best, max_iter, tolerance)
    unconverged += int(model.n_iter_.max() >= max_iter)
    weight, bias = np.zeros((x.shape[1], n_classes)), np.full(n_classes, -np.inf)
    if len(model.classes_) == 2:  # scikit-learn keeps one row of a binary problem
        second = int(model.classes_[1])
        weight[:, second], bias[second], bias[int(model.classes_[0])] = model.coef_[0], model.intercept_[0], 0.0
    else:
        weight[:, model.classes_], bias[model.classes_] = model.coef_.T, model.intercept_
    return LogisticHead(weight, bias, best, unconverged)
