"""Logistic regression with C chosen on a slice."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from vitbench.errors import DataError
from vitbench.heads.logistic import fit_logistic
from vitbench.heads.standardise import Standardiser


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1):
        yield


def blobs(classes, n=120, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(classes), n)
    x = rng.normal(size=(len(classes), 6))[y] * 2 + rng.normal(size=(n, 6))
    return x, np.array(classes)[y]


def test_the_refit_equals_scikit_learn_with_the_chosen_c():
    x, y = blobs([0, 1, 2])
    held_out = np.arange(len(x)) % 5 == 0
    head = fit_logistic(x, y, held_out, [0.01, 1.0, 100.0], 3, 1000, 1e-6)
    model = LogisticRegression(C=head.chosen_c, max_iter=1000, tol=1e-6).fit(x, y)
    np.testing.assert_allclose(head(x), model.decision_function(x), atol=1e-8)
    accuracies = {}
    for c in (0.01, 1.0, 100.0):
        inner = LogisticRegression(C=c, max_iter=1000, tol=1e-6).fit(x[~held_out], y[~held_out])
        accuracies[c] = (inner.predict(x[held_out]) == y[held_out]).mean()
    best = max(accuracies.values())
    assert head.chosen_c == min(c for c, a in accuracies.items() if a == best)


def test_classes_that_train_lacks_are_never_predicted():
    x, y = blobs([1, 3, 4])
    head = fit_logistic(x, y, np.arange(len(x)) < 12, [1.0], 6, 1000, 1e-4)
    assert set(head(x).argmax(1)) == {1, 3, 4}


def test_two_classes_are_scored_like_scikit_learn():
    x, y = blobs([0, 2])
    head = fit_logistic(x, y, np.arange(len(x)) < 12, [1.0], 3, 1000, 1e-4)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(x, y)
    assert np.array_equal(head(x).argmax(1), model.predict(x))


def test_one_class_is_refused_and_a_stopped_fit_is_counted():
    x, y = blobs([0, 1])
    with pytest.raises(DataError, match="one class only"):
        fit_logistic(x, np.zeros_like(y), np.arange(len(x)) < 12, [1.0], 2, 100, 1e-4)
    assert fit_logistic(x, y, np.arange(len(x)) < 12, [1e5], 2, 1, 1e-12).unconverged == 2


def test_standardising_leaves_constant_channels_at_zero():
    x = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert np.array_equal(Standardiser.fit(x)(x), [[-1, 0], [1, 0]])
    assert np.array_equal(Standardiser.identity(2)(x), x)
