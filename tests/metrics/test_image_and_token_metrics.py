"""Classification, position, pixel and norm metrics against independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import median_abs_deviation
from sklearn.metrics import top_k_accuracy_score

from vitbench.metrics import measures
from vitbench.metrics.classification import hits
from vitbench.metrics.norms import Thresholds, mad_threshold, norm_counts
from vitbench.metrics.pixels import pixel_errors
from vitbench.metrics.position import position_counts
from vitbench.records.rows import Rows


def values(kind, stats, info=None):
    names = tuple(map(str, range(len(stats))))
    rows = Rows(names, names, {k: np.stack([np.asarray(s[k], float) for s in stats]) for k in stats[0]}, info or {})
    return {m.name: m.value(rows.sums(), rows.info) for m in measures(kind)}


def test_top1_and_top5_equal_scikit_learn():
    rng = np.random.default_rng(0)
    scores, labels = rng.random((60, 8)), rng.integers(0, 8, 60)
    labels[:8] = np.arange(8)
    found = values("classification", [hits(s, int(y)) for s, y in zip(scores, labels, strict=True)])
    assert found["top1"] == pytest.approx(100 * top_k_accuracy_score(labels, scores, k=1))
    assert found["top5"] == pytest.approx(100 * top_k_accuracy_score(labels, scores, k=5))


def test_equal_votes_rank_by_index_and_top5_of_five_classes_is_undefined():
    assert hits(np.zeros(4), 0)["correct"] == 1
    assert hits(np.zeros(4), 1)["correct"] == 0
    assert np.isnan(values("classification", [hits(np.zeros(5), 1)])["top5"])
    assert hits(np.array([0, 0, 0, 0, 0, 0, 1.0]), 5)["correct_top5"] == 0


def test_position_distance_is_euclidean_in_patches():
    grid, outlier = (3, 4), np.zeros(12, bool)
    outlier[[0, 11]] = True
    predicted = np.arange(12)
    predicted[0] = 11  # two rows and three columns away
    predicted[5] = 6  # one column away
    found = values("position", [position_counts(predicted, grid, outlier)])
    assert found["top1"] == pytest.approx(100 * 10 / 12)
    assert found["top1_normal"] == pytest.approx(100 * 9 / 10)
    assert found["top1_outlier"] == pytest.approx(50)
    assert found["distance"] == pytest.approx((np.sqrt(13) + 1) / 12)
    assert found["distance_outlier"] == pytest.approx(np.sqrt(13) / 2)
    assert found["outliers"] == pytest.approx(100 * 2 / 12)


def test_outlier_measures_are_undefined_without_outliers():
    none = np.zeros(4, bool)
    found = values("position", [position_counts(np.arange(4), (2, 2), none)])
    assert np.isnan(found["top1_outlier"])
    assert found["outliers"] == 0
    assert np.isnan(values("pixels", [pixel_errors(np.ones(4), none)])["l2_outlier"])


def test_pixel_error_is_a_mean_of_norms():
    outlier = np.array([True, False, False, False])
    found = values("pixels", [pixel_errors(np.array([5.0, 1, 1, 1]), outlier), pixel_errors(np.ones(4), ~outlier)])
    assert found["l2"] == pytest.approx((5 + 7) / 8)
    assert found["l2_outlier"] == pytest.approx((5 + 3) / 4)


def test_mad_threshold_equals_scipy():
    norms = np.random.default_rng(0).gamma(3, size=(4, 501))
    expected = np.median(norms, axis=1) + 7 * median_abs_deviation(norms, axis=1)
    np.testing.assert_allclose(mad_threshold(norms, 7), expected)


def test_norm_rules_find_the_planted_tokens_and_nothing_on_a_clean_block():
    rng = np.random.default_rng(0)
    norms = rng.normal(10, 0.5, (2, 5, 200)).astype(np.float32)  # blocks, images, tokens
    norms[1, :, :4] = 80
    thresholds = Thresholds.of(norms.reshape(2, -1), 10, 50)
    stats = [norm_counts(norms[:, i], thresholds) for i in range(5)]
    last = values("norms", stats, {"block": -1, "cutoff": 50.0})
    first = values("norms", stats, {"block": 0, "cutoff": None})
    assert last["outliers_mad"] == last["outliers_cutoff"] == last["outliers_3std"] == pytest.approx(2)
    assert last["max_over_median"] == pytest.approx(8, rel=0.02)
    assert first["outliers_mad"] == 0
    assert np.isnan(first["outliers_cutoff"])
    assert first["outliers_mad_worst_block"] == pytest.approx(2)
    assert first["max_over_median_worst_block"] == last["max_over_median"]
