"""Saliency measures against scikit-learn and an obvious restatement."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, jaccard_score, precision_score, recall_score

from vitbench.metrics.saliency import MEASURES, THRESHOLDS, saliency_statistics

M = {m.name: m for m in MEASURES}
RNG = np.random.default_rng(0)


def image(h: int = 9, w: int = 11):
    score, truth = RNG.random((h, w)).round(2), RNG.random((h, w)) < 0.4
    return score, score > 0.5, truth, RNG.random((h, w)) < 0.9


def test_precision_and_recall_at_every_threshold_equal_scikit_learn():
    score, found, truth, valid = image()
    stats = saliency_statistics(score, found, truth, valid)
    for i, level in enumerate(np.linspace(0, 1, THRESHOLDS, endpoint=False)):
        predicted = (score >= level)[valid]
        assert stats["precision"][i] == pytest.approx(precision_score(truth[valid], predicted, zero_division=0))
        assert stats["recall"][i] == pytest.approx(recall_score(truth[valid], predicted))
    assert stats["iou"] == pytest.approx(jaccard_score(truth[valid], found[valid]))
    assert stats["correct"] == pytest.approx(accuracy_score(truth[valid], found[valid]))


def test_the_mean_over_images_comes_before_the_best_threshold():
    images = [saliency_statistics(*image()) for _ in range(5)]
    sums = {name: sum(np.asarray(s[name]) for s in images) for name in images[0]}
    p, r = (np.mean([s[name] for s in images], axis=0) for name in ("precision", "recall"))
    assert M["maxF"].value(sums, {}) == pytest.approx(100 * np.max(1.3 * p * r / np.maximum(0.3 * p + r, 1e-12)))
    each = [M["maxF"].value({k: np.asarray(v) for k, v in s.items()}, {}) for s in images]
    assert M["maxF"].value(sums, {}) < np.mean(each)


def test_draws_of_the_bootstrap_are_computed_at_once():
    images = [saliency_statistics(*image()) for _ in range(4)]
    stacked = {name: np.stack([np.asarray(s[name], np.float64) for s in images]) for name in images[0]}
    weights = RNG.integers(0, 3, (6, 4)).astype(np.float64)
    weights[0] = 0
    many = M["maxF"].value({k: weights @ v for k, v in stacked.items()}, {})
    assert np.isnan(many[0])
    for row, value in zip(weights[1:], many[1:], strict=True):
        assert value == pytest.approx(float(M["maxF"].value({k: row @ v for k, v in stacked.items()}, {})))


def test_a_perfect_map_scores_everything_and_an_empty_truth_counts_nowhere():
    truth = np.zeros((6, 6), bool)
    truth[1:3, 2:5] = True
    full = np.ones((6, 6), bool)
    stats = saliency_statistics(truth.astype(float), truth, truth, full)
    assert [float(m.value({k: np.asarray(v) for k, v in stats.items()}, {})) for m in MEASURES] == [100, 100, 100]
    empty = saliency_statistics(truth.astype(float), truth, ~full, full)
    assert empty["n_without"] == 1
    assert sum(float(np.sum(v)) for v in empty.values()) == 1
    assert all(np.isnan(m.value({k: np.asarray(v) for k, v in empty.items()}, {})) for m in MEASURES)
