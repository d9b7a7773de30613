"""Retrieval by hand, by an obvious restatement of the reference, and instance ranks with ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitbench.metrics.instances import query_statistics as one_right
from vitbench.metrics.retrieval import MEASURES, average_precision, precision_at, query_statistics

M = {m.name: m for m in MEASURES}


def slow_ap(ranks):
    ap, step = 0.0, 1 / len(ranks)
    for j, rank in enumerate(ranks):
        before = 1.0 if rank == 0 else j / rank
        ap += (before + (j + 1) / (rank + 1)) * step / 2
    return ap


@given(st.sets(st.integers(0, 40), min_size=1, max_size=20))
def test_average_precision_is_the_sum_of_trapezoids(ranks):
    ordered = sorted(ranks)
    assert average_precision(np.array(ordered)) == pytest.approx(slow_ap(ordered))


def test_all_right_ones_first_is_perfect_and_later_is_less():
    assert average_precision(np.arange(5)) == 1
    assert average_precision(np.array([1])) == 0.25  # (0 + 1/2) / 2
    assert precision_at(np.array([0, 1]), 10) == 1  # only as far as the last right one
    assert precision_at(np.array([0, 9]), 5) == 0.2


def test_medium_and_hard_differ_in_what_is_right_and_what_is_not_looked_at():
    ranking = ["junk", "easy", "other", "hard"]
    stats = query_statistics(ranking, {"easy": ["easy"], "hard": ["hard"], "junk": ["junk"]})
    assert stats["ap_M"] == pytest.approx(slow_ap([0, 2]))
    assert stats["ap_H"] == pytest.approx(slow_ap([1]))
    assert stats["p1_M"] == 1
    assert stats["p1_H"] == 0


def test_a_query_without_a_right_image_is_left_out():
    stats = query_statistics(["a", "b"], {"easy": ["a"], "hard": [], "junk": []})
    assert (stats["n_M"], stats["n_H"]) == (1, 0)
    sums = {k: np.array(v) for k, v in stats.items()}
    assert M["mAP_M"].value(sums, {}) == 100
    assert np.isnan(M["mAP_H"].value(sums, {}))


def test_an_instance_ranks_by_similarity_and_last_among_equals():
    stats = one_right(np.array([0.1, 0.9, 0.5]), 2, far=True)
    assert (stats["hit"], stats["reciprocal"], stats["hit5"], stats["n_far"], stats["n_near"]) == (0, 0.5, 1, 1, 0)
    assert one_right(np.array([0.1, 0.9, 0.5]), 1, far=False)["hit_near"] == 1
    same = one_right(np.full(8, 0.3), 0, far=False)
    assert (same["hit"], same["reciprocal"], same["chance"]) == (0, 1 / 8, 1 / 8)
