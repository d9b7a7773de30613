"""Segmentation metrics against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from vitbench.errors import DataError
from vitbench.metrics.segmentation import MEASURES, class_counts, confusion, patch_counts
from vitbench.records.rows import Rows

M = {m.name: m for m in MEASURES}


def rows_of(pairs, k, info=None, ignore=255):
    counts = [class_counts(confusion(p, t, k, ignore)) for p, t in pairs]
    names = tuple(f"im{i}" for i in range(len(pairs)))
    return Rows(names, names, {n: np.stack([c[n] for c in counts]) for n in counts[0]}, info or {})


def test_confusion_equals_scikit_learn_with_ignored_pixels_left_out():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, (40, 30)), rng.integers(0, 5, (40, 30))
    truth[rng.random(truth.shape) < 0.2] = 255
    valid = truth != 255
    expected = confusion_matrix(truth[valid], predicted[valid], labels=range(5))
    assert np.array_equal(confusion(predicted, truth, 5), expected)


def test_miou_is_of_the_split_and_not_a_mean_over_images():
    rng = np.random.default_rng(1)
    pairs = [(rng.integers(0, 4, (9, 9)), rng.integers(0, 1 + i % 4, (9, 9))) for i in range(6)]
    rows = rows_of(pairs, 4)
    flat_p, flat_t = (np.concatenate([p[i].ravel() for p in pairs]) for i in (0, 1))
    assert M["mIoU"].value(rows.sums(), {}) == pytest.approx(100 * jaccard_score(flat_t, flat_p, average="macro"))
    assert M["aAcc"].value(rows.sums(), {}) == pytest.approx(100 * (flat_p == flat_t).mean())


def test_a_3x3_example_by_hand_with_an_absent_class_and_ignored_pixels():
    truth = np.array([[0, 0, 1], [0, 1, 1], [255, 255, 1]])
    predicted = np.array([[0, 1, 1], [0, 1, 0], [2, 2, 1]])
    sums = rows_of([(predicted, truth)], 4).sums()
    # class 0: 2 of 4 in the union, class 1: 3 of 5; classes 2 and 3 are in neither once void is left out
    assert M["mIoU"].value(sums, {}) == pytest.approx(100 * (2 / 4 + 3 / 5) / 2)
    assert M["mAcc"].value(sums, {}) == pytest.approx(100 * (2 / 3 + 3 / 4) / 2)
    assert M["aAcc"].value(sums, {}) == pytest.approx(100 * 5 / 7)
    assert M["mIoU"].value(sums, {"absent_classes": "zero"}) == pytest.approx(100 * (2 / 4 + 3 / 5) / 4)
    assert M["mIoU_objects"].value(sums, {"object_classes": [1, 3]}) == pytest.approx(100 * 3 / 5)


def test_a_class_that_is_only_predicted_counts_with_zero():
    sums = rows_of([(np.array([0, 2]), np.array([0, 0]))], 3).sums()
    assert M["mIoU"].value(sums, {}) == pytest.approx(100 * (1 / 2 + 0) / 2)
    assert M["mAcc"].value(sums, {}) == pytest.approx(50)


def test_nothing_labelled_is_undefined_and_silent():
    sums = rows_of([(np.zeros((2, 2), int), np.full((2, 2), 255))], 3).sums()
    for name in ("mIoU", "mAcc", "aAcc", "mIoU_objects"):
        assert np.isnan(M[name].value(sums, {}))


def test_zero_label_of_ade20k_is_ignored_not_a_class():
    sums = rows_of([(np.array([0, 1, 1]), np.array([0, 0, 1]))], 2, ignore=0).sums()
    assert M["mIoU"].value(sums, {}) == 100


def test_a_label_outside_the_classes_is_refused():
    with pytest.raises(DataError, match="label 7 is outside the 3 classes"):
        confusion(np.zeros(2, int), np.array([0, 7]), 3)


def test_measures_take_sums_of_many_resamples_at_once():
    rng = np.random.default_rng(2)
    rows = rows_of([(rng.integers(0, 3, 20), rng.integers(0, 3, 20)) for _ in range(5)], 3)
    weights = rng.integers(0, 3, (7, 5)).astype(float)
    together = M["mIoU"].value(rows.sums(weights), {})
    one_by_one = [M["mIoU"].value({n: w @ s for n, s in rows.stats.items()}, {}) for w in weights]
    assert together.shape == (7,)
    np.testing.assert_allclose(together, one_by_one)


def test_flagged_tokens_are_counted_apart_and_cells_without_labels_not_at_all():
    predicted, majority = np.array([[0, 1], [2, 2]]), np.array([[0, 0], [2, 0]])
    valid, flagged = np.array([[True, True], [True, False]]), np.array([[False, True], [True, True]])
    assert patch_counts(predicted, majority, valid, flagged) == {
        "n_tokens": 3, "correct_tokens": 2, "n_flagged": 2, "correct_flagged": 1,
    }  # fmt: skip
