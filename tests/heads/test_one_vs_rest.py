"""One classifier per class: scikit-learn's for each, one C for all, and classes that cannot be told apart."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from vitbench.errors import DataError
from vitbench.heads.one_vs_rest import Stop, fit_one_vs_rest
from vitbench.metrics.multilabel import mean_average_precision

STOP = Stop(1000, 1e-6)
GRID = [0.01, 1.0, 100.0]


@pytest.fixture(autouse=True)
def _one_thread():
    with threadpool_limits(1):
        yield


def blobs(n: int = 120, classes: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    marks = (rng.random((n, classes)) < 0.4).astype(np.int8)
    x = marks @ rng.normal(size=(classes, 6)) + rng.normal(size=(n, 6))
    return x, marks, np.arange(n) % 3 == 0


def test_each_class_is_scikit_learns_with_the_one_c_that_was_best_held_out():
    x, marks, held_out = blobs()
    marks[5:30, 1] = -1
    head = fit_one_vs_rest(x, marks, held_out, GRID, STOP, mean_average_precision)
    scores = {}
    for c in GRID:
        found = []
        for k in range(3):
            kept = ~held_out & (marks[:, k] >= 0)
            model = LogisticRegression(C=c, max_iter=1000, tol=1e-6).fit(x[kept], marks[kept, k])
            found.append(model.decision_function(x[held_out]))
        scores[c] = mean_average_precision(np.stack(found, 1), marks[held_out])
    assert head.chosen_c == max(scores, key=lambda c: (scores[c], -c))
    for k in range(3):
        kept = marks[:, k] >= 0
        model = LogisticRegression(C=head.chosen_c, max_iter=1000, tol=1e-6).fit(x[kept], marks[kept, k])
        np.testing.assert_allclose(head(x)[:, k], model.decision_function(x), atol=1e-8)


def test_unsure_images_are_left_out_or_absent_as_asked():
    x, marks, held_out = blobs()
    absent = marks.copy()
    marks[:40, 0] = -1
    absent[:40, 0] = 0
    left_out = fit_one_vs_rest(x, marks, held_out, [1.0], STOP, mean_average_precision)
    as_absent = fit_one_vs_rest(x, marks, held_out, [1.0], STOP, mean_average_precision, unsure_absent=True)
    expected = fit_one_vs_rest(x, absent, held_out, [1.0], STOP, mean_average_precision)
    np.testing.assert_allclose(as_absent(x), expected(x))
    assert np.abs(left_out(x)[:, 0] - as_absent(x)[:, 0]).max() > 0.1


@pytest.mark.parametrize("constant", [0, 1, -1])
def test_a_class_that_all_or_no_images_show_has_no_classifier_and_equal_scores(constant):
    x, marks, held_out = blobs()
    marks[:, 2] = constant
    head = fit_one_vs_rest(x, marks, held_out, GRID, STOP, mean_average_precision)
    assert head.fitted.tolist() == [True, True, False]
    assert not head(x)[:, 2].any()


def test_where_the_held_out_slice_shows_nothing_the_smallest_c_is_taken():
    x, marks, held_out = blobs()
    marks[held_out] = 0
    assert fit_one_vs_rest(x, marks, held_out, GRID, STOP, mean_average_precision).chosen_c == 0.01
    x, marks, held_out = blobs()
    marks[~held_out] = 0
    assert fit_one_vs_rest(x, marks, held_out, GRID, STOP, mean_average_precision).chosen_c == 0.01


def test_nothing_to_tell_apart_is_refused_and_a_stopped_fit_is_counted():
    x, marks, held_out = blobs()
    with pytest.raises(DataError, match="no class is shown"):
        fit_one_vs_rest(x, np.ones_like(marks), held_out, GRID, STOP, mean_average_precision)
    head = fit_one_vs_rest(x, marks, held_out, [1e5], Stop(1, 1e-12), mean_average_precision)
    assert head.unconverged == 6
