"""Ranks with intervals, against pairwise tests and a slow re-statement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.records.test_inference import estimate
from vitbench.records import ranks
from vitbench.records.inference import Estimate, combine_seeds, paired_difference
from vitbench.records.ranks import shared_ranks


def test_ranks_that_cannot_be_told_apart_are_shared() -> None:
    rng = np.random.default_rng(7)
    shared = rng.normal(0, 3, 200)
    levels = (0.0, 0.0, 2.0, -2.0)
    estimates = [estimate(shared + level + rng.normal(0, 0.5, 200)) for level in levels]
    assert shared_ranks(estimates) == [(2, 3), (2, 3), (1, 1), (4, 4)]
    assert shared_ranks(estimates, higher_is_better=False) == [(2, 3), (2, 3), (4, 4), (1, 1)]


def test_ranks_agree_with_pairwise_paired_tests() -> None:
    rng = np.random.default_rng(8)
    shared = rng.normal(0, 2, 60)
    estimates = [estimate(shared + 0.2 * i + rng.normal(0, 1, 60), 400) for i in range(6)]
    alpha = 0.05 / 5
    better = np.zeros((6, 6), bool)
    for i, a in enumerate(estimates):
        for j, b in enumerate(estimates):
            d = paired_difference(a, b)
            assert d.p is not None
            better[i, j] = i != j and d.p < alpha and d.delta > 0
    assert shared_ranks(estimates) == [(1 + better[:, i].sum(), 6 - better[i].sum()) for i in range(6)]


def test_ranks_of_two_groups_or_of_a_rounding_are_shared() -> None:
    few = [estimate(np.array([1.0, 2.0]) + up) for up in (0.0, 5.0, 9.0)]
    assert shared_ranks(few) == [(1, 3)] * 3
    assert shared_ranks([few[0], Estimate(few[1].value, few[1].draws, "other", 50), few[2]]) == [(1, 3)] * 3
    many = estimate(np.arange(60.0))
    assert shared_ranks([many, Estimate(many.value * (1 + 1e-9), many.draws, many.key, 60)]) == [(1, 2)] * 2


def test_ranks_of_seeds_agree_with_pairwise_paired_tests() -> None:
    rng = np.random.default_rng(11)
    hard = rng.normal(0, 2, 40)
    cells = [
        combine_seeds([estimate(hard + 0.5 * i + rng.normal(0, 0.4) + rng.normal(0, 0.3, 40), 400) for _ in range(3)])
        for i in range(7)
    ]
    better = np.array([[_beats(a, b, 0.05 / 6) for b in cells] for a in cells])
    assert better.any()
    assert not np.triu(better.T, 1).all()
    assert shared_ranks(cells) == [(1 + better[:, i].sum(), 7 - better[i].sum()) for i in range(7)]


def _beats(a: Estimate, b: Estimate, alpha: float) -> bool:
    d = paired_difference(a, b)
    return d.p is not None and d.p < alpha and d.delta > 0


def test_one_estimate_is_first() -> None:
    assert shared_ranks([estimate(np.arange(5.0))]) == [(1, 1)]


@pytest.mark.parametrize("few", [10_000, 0], ids=["float64", "float32"])
def test_ranks_of_many_rows_are_those_of_all_pairs(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, the shortcut for far rows and the narrow type change nothing, near-ties and lone rows included."""
    monkeypatch.setattr(ranks, "_FEW", few)
    monkeypatch.setattr(ranks, "_BLOCK", 7)
    rng = np.random.default_rng(7)
    shared = rng.normal(0, 1, 400)
    rows = [
        Estimate(float(v), (v + shared + rng.normal(0, s, 400)).astype(np.float32), "k", 99)
        for v, s in zip(rng.normal(50, 3, 40), rng.choice([1e-4, 0.1, 1.0], 40), strict=True)
    ]
    rows += [Estimate(rows[0].value + d, rows[0].draws, "k", 99) for d in (0.0, 1e-3)]
    rows += [
        Estimate(50.0),
        Estimate(51.0, rows[3].draws, "other", 99),
        Estimate(49.0, rng.normal(49, 1, 100).astype(np.float32), "k"),
    ]
    found = [brute_rank(i, rows) for i in range(len(rows))]
    assert shared_ranks(rows) == found
    for i in range(len(rows)):
        assert shared_ranks(rows, asked=[k == i for k in range(len(rows))]) == [found[i]]


def brute_rank(i: int, rows: list[Estimate]) -> tuple[int, int]:
    """As the definition has it: a test against every other row, Student's t with as many groups as the two have."""

    def variance(x: np.ndarray, groups: int) -> float:
        return float(np.var(x, ddof=1)) * (groups / (groups - 1) if groups else 1.0)

    def spread(a: Estimate, b: Estimate) -> float:
        if a.draws is not None and b.draws is not None and a.key == b.key and len(a.draws) == len(b.draws):
            return variance(a.draws.astype(float) - b.draws.astype(float), a.groups)
        return sum(variance(e.draws.astype(float), e.groups) for e in (a, b) if e.draws is not None)

    def limit(a: Estimate, b: Estimate) -> float:
        freedom = min([e.groups - 1 for e in (a, b) if e.groups and e.draws is not None], default=10**9)
        return float(stats.t.ppf(1 - 0.05 / (2 * (len(rows) - 1)), freedom))

    others = [r for j, r in enumerate(rows) if j != i]
    apart = [(r.value - rows[i].value) ** 2 > limit(r, rows[i]) ** 2 * spread(r, rows[i]) for r in others]
    better = sum(a and r.value > rows[i].value for a, r in zip(apart, others, strict=True))
    worse = sum(a and r.value < rows[i].value for a, r in zip(apart, others, strict=True))
    return better + 1, len(rows) - worse
