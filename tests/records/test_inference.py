"""Statistics against brute force, scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vitbench.metrics.ratios import percent
from vitbench.records.inference import (
    Estimate,
    benjamini_hochberg,
    combine_seeds,
    draws_key,
    group_sums,
    paired_difference,
    paired_differences,
    percentile_interval,
    recovery,
    resamples,
    summarise,
    two_sided_p,
)
from vitbench.records.rows import Measure, Rows

MEAN_OF_ALL = Measure("mean", "%", True, lambda s, info: s["auc"] / (s["n"] + s["n_without"]))
MEAN = Measure("mean", "%", True, lambda s, info: s["x"] / s["n"])


def rows_of(x: np.ndarray, groups: tuple[str, ...] | None = None) -> Rows:
    units = tuple(f"u{i}" for i in range(len(x)))
    return Rows(units, groups or units, {"x": x.astype(np.float64), "n": np.ones(len(x))})


def estimate(x: np.ndarray, draws: int = 1000, groups: tuple[str, ...] | None = None) -> Estimate:
    m = summarise(rows_of(x, groups), [MEAN], draws=draws)["mean"]
    assert m.value is not None
    return Estimate(m.value, m.draws, m.draws_key, m.n)


def test_images_that_tell_nothing_of_a_measure_give_its_tests_no_freedom() -> None:
    """Foreground of 4 photographs among 40 that are all foreground: surely no p below that of 4 signs."""
    rng = np.random.default_rng(0)
    tells = np.arange(40) < 4
    units = tuple(f"u{i}" for i in range(40))
    found = []
    for shift in (0.0, 0.5):
        auc = np.where(tells, rng.normal(0.3 + shift, 0.01, 40), 0.0)
        stats = {"auc": auc, "n": tells.astype(float), "n_without": (~tells).astype(float)}
        found.append(summarise(Rows(units, units, stats), [percent("AUC", "auc", "n"), MEAN_OF_ALL]))
    a, b = (Estimate(m["AUC"].value or 0.0, m["AUC"].draws, m["AUC"].draws_key, m["AUC"].n) for m in found)
    assert (a.groups, b.groups, found[0]["mean"].n) == (4, 4, 40)
    assert paired_difference(b, a).p == pytest.approx(2**-3)


def test_draws_equal_explicitly_resampled_groups() -> None:
    rng = np.random.default_rng(0)
    groups = tuple(f"g{i // 3}" for i in rng.permutation(24))
    x = rng.normal(size=24)
    rows = rows_of(x, groups)
    got = summarise(rows, [MEAN], draws=50)["mean"]
    names = sorted(set(groups))
    weights = np.concatenate(list(resamples(draws_key(groups, 50, 0), len(names), 50)))
    assert np.all(weights.sum(1) == len(names))
    for d, w in enumerate(weights):
        picked = [
            i for g, count in zip(names, w, strict=True) for _ in range(int(count)) for i in range(24) if groups[i] == g
        ]
        assert got.draws is not None
        assert got.draws[d] == pytest.approx(x[picked].mean(), rel=1e-6)
    assert got.n == len(names)


def test_group_sums_are_over_groups_in_sorted_order() -> None:
    rows = Rows(("a", "b", "c"), ("z", "y", "z"), {"x": np.array([[1.0, 2], [3, 4], [5, 6]])})
    assert group_sums(rows)["x"].tolist() == [[3, 4], [6, 8]]


def test_cells_on_the_same_groups_are_resampled_alike_in_any_order_of_rows() -> None:
    x = np.arange(30.0)
    order = np.random.default_rng(1).permutation(30)
    units = tuple(f"u{i}" for i in range(30))
    a = summarise(rows_of(x), [MEAN])["mean"]
    shuffled = Rows(tuple(units[i] for i in order), tuple(units[i] for i in order), {"x": x[order], "n": np.ones(30)})
    b = summarise(shuffled, [MEAN])["mean"]
    assert a.draws_key == b.draws_key
    np.testing.assert_allclose(a.draws, b.draws, rtol=1e-6)


def test_other_groups_or_another_number_of_draws_give_another_key() -> None:
    keys = {
        draws_key(("a", "b"), 10, 0),
        draws_key(("a", "c"), 10, 0),
        draws_key(("a", "b"), 11, 0),
        draws_key(("a", "b"), 10, 1),
    }
    assert len(keys) == 4
    assert draws_key(("b", "a", "a"), 10, 0) == draws_key(("a", "b"), 10, 0)


def test_undefined_value_is_none_with_a_note() -> None:
    m = Measure("m", "%", True, lambda s, info: s["x"] * np.nan)
    got = summarise(rows_of(np.ones(5)), [m])["m"]
    assert got.value is None
    assert got.note == "undefined on these units"
    nothing = Rows(("a", "b"), ("a", "b"), {"x": np.zeros(2), "n_outlier": np.zeros(2)})
    got = summarise(nothing, [percent("share", "x", "n_outlier")])["share"]
    assert (got.value, got.n, got.note) == (None, 0, "undefined: n_outlier is 0 on all units")


def test_measure_that_is_no_function_of_sums_has_a_value_and_says_why_no_interval() -> None:
    m = Measure("m", "%", True, lambda s, info: s["x"], no_bootstrap="a rank correlation")
    got = summarise(rows_of(np.ones(5)), [m])["m"]
    assert (got.value, got.ci_low, got.draws) == (5.0, None, None)
    assert "a rank correlation" in got.note


def test_one_group_has_no_interval() -> None:
    got = summarise(rows_of(np.ones(5), ("g",) * 5), [MEAN])["mean"]
    assert got.ci_low is None
    assert "fewer than two groups" in got.note


def test_percentile_interval_is_numpys() -> None:
    draws = np.random.default_rng(0).normal(size=777)
    assert percentile_interval(draws) == pytest.approx(np.percentile(draws, [2.5, 97.5]))
    assert percentile_interval(np.full(100, np.nan)) is None


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        m = summarise(rows_of(rng.normal(size=100)), [MEAN], draws=300)["mean"]
        assert m.ci_low is not None
        assert m.ci_high is not None
        hits += m.ci_low <= 0 <= m.ci_high
    low, high = stats.binom.interval(
        0.999, 200, 0.94
    )  # a percentile interval of 100 units covers a little less than 95 %
    assert low <= hits <= high


def test_aa_pairs_are_told_apart_no_more_often_than_alpha_allows() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(200):
        shared = rng.normal(0, 3, 200)
        a, b = (estimate(shared + rng.normal(size=200), 300) for _ in range(2))
        p = paired_difference(a, b).p
        assert p is not None
        hits += p < 0.05
    assert hits <= stats.binom.ppf(0.995, 200, 0.05)
    assert hits >= stats.binom.ppf(0.005, 200, 0.05)


@pytest.mark.parametrize("groups", [6, 12, 20])
def test_aa_pairs_of_few_groups_are_told_apart_no_more_often_either(groups: int) -> None:
    rng = np.random.default_rng(4)
    p = []
    for _ in range(200):
        shared = rng.normal(0, 3, groups)
        p.append(paired_difference(*(estimate(shared + rng.normal(size=groups), 300) for _ in range(2))).p)
    assert (
        stats.binom.ppf(0.005, 200, 0.05)
        <= sum(x < 0.05 for x in p if x is not None)
        <= stats.binom.ppf(0.995, 200, 0.05)
    )


def test_aa_pairs_whose_seeds_differ_are_told_apart_no_more_often_either() -> None:
    """Three seeds are three numbers, however many images each was measured on."""
    rng = np.random.default_rng(5)

    def cell(hard: np.ndarray) -> Estimate:
        return combine_seeds([estimate(hard + rng.normal(0, 2) + rng.normal(0, 0.5, 30), 200) for _ in range(3)])

    found = [paired_difference(cell(hard), cell(hard)) for hard in rng.normal(60, 5, (200, 30))]
    assert sum(d.p is not None and d.p < 0.05 for d in found) <= stats.binom.ppf(0.995, 200, 0.05)
    covered = [d.ci_low <= 0 <= d.ci_high for d in found if d.ci_low is not None and d.ci_high is not None]
    assert sum(covered) >= stats.binom.ppf(0.005, 200, 0.93)


def test_a_true_point_gets_its_mark_as_often_as_a_t_test_would_give_it() -> None:
    """Power, at one point and a standard error of 0.4: 0.70."""
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(200):
        hard = rng.normal(60, 10, 100)
        a, b = (estimate(hard + up + rng.normal(0, 4 / np.sqrt(2), 100), 300) for up in (1.0, 0.0))
        p = paired_difference(a, b).p
        hits += p is not None and p < 0.05
    expected = stats.nct.sf(stats.t.ppf(0.975, 99), 99, 1 / 0.4)
    assert stats.binom.ppf(0.005, 200, expected) <= hits <= stats.binom.ppf(0.995, 200, expected)


def test_p_and_interval_of_seeds_are_those_of_a_t_test_on_them_where_only_they_differ() -> None:
    x = np.random.default_rng(7).normal(60, 5, 80)
    ups = (0.5, 1.5, 2.2)
    d = paired_difference(combine_seeds([estimate(x + up, 4000) for up in ups]), combine_seeds([estimate(x, 4000)] * 3))
    assert d.p == pytest.approx(stats.ttest_1samp(ups, 0).pvalue, rel=0.05)
    low, high = stats.t.interval(0.95, 2, np.mean(ups), stats.sem(ups))
    assert d.ci_low is not None
    assert d.ci_high is not None
    assert d.ci_high - d.ci_low == pytest.approx(high - low, rel=0.25)  # of three seeds, ten means: no smooth quantile


def test_pairing_removes_what_the_units_have_in_common() -> None:
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 10, 300)
    a, b = estimate(shared + 0.5 + rng.normal(0, 0.5, 300)), estimate(shared + rng.normal(0, 0.5, 300))
    d = paired_difference(a, b)
    reference = stats.ttest_rel(rng.normal(0.5, 0.7, 300), np.zeros(300))
    assert d.p is not None
    assert d.p < 1e-6
    assert reference.pvalue < 1e-6
    assert d.ci_low is not None
    assert 0 < d.ci_low < d.delta


def test_p_of_a_paired_difference_is_that_of_a_paired_test() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.normal(0.15, 1, 400), rng.normal(0, 1, 400)
    p = paired_difference(estimate(x, 4000), estimate(y, 4000)).p
    assert p == pytest.approx(stats.ttest_rel(x, y).pvalue, rel=0.25)


def test_cells_on_other_units_are_not_paired() -> None:
    a = estimate(np.arange(10.0))
    b = estimate(np.arange(11.0))
    d = paired_difference(a, b)
    assert d.p is None
    assert "different units" in d.note


def test_equal_cells_have_p_one_and_few_groups_never_a_tiny_p() -> None:
    a = estimate(np.arange(10.0))
    assert paired_difference(a, a).p == 1.0
    up = estimate(np.arange(4.0) + 5)
    assert paired_difference(up, estimate(np.arange(4.0))).p == pytest.approx(2.0**-3)


def test_tails_are_fine_enough_for_1200_tests() -> None:
    assert 0 < two_sided_p(8.0, 1.0) < 0.05 / 1200
    assert two_sided_p(1.96, 1.0) == pytest.approx(2 * stats.norm.sf(1.96))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_adjusted_p_is_scipys(p: list[float]) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p), atol=1e-12)


def test_adjusting_nothing_gives_nothing() -> None:
    assert len(benjamini_hochberg([])) == 0


def test_recovery_is_the_share_won_back() -> None:
    rng = np.random.default_rng(9)
    x = rng.normal(50, 5, 300)
    noise = [rng.normal(0, 0.5, 300) for _ in range(3)]
    clean, bad, fixed = estimate(x + noise[0]), estimate(x - 10 + noise[1]), estimate(x - 4 + noise[2])
    got = recovery(fixed, bad, clean, min_gap=2.0)
    assert got.value == pytest.approx(0.6, abs=0.03)
    assert got.ci_low is not None
    assert got.ci_high is not None
    assert got.ci_low < 0.6 < got.ci_high


def test_recovery_of_a_loss_reads_the_same() -> None:
    x = np.random.default_rng(1).normal(5, 0.5, 200)
    n = np.random.default_rng(2).normal(0, 0.01, 200)
    got = recovery(estimate(x + 0.5), estimate(x + 1 + n), estimate(x), min_gap=0.1, higher_is_better=False)
    assert got.value == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("gap", [0.0, 1.9, -10.0])
def test_recovery_is_null_where_the_defect_costs_under_two_points(gap: float) -> None:
    x = np.random.default_rng(1).normal(50, 5, 200)
    got = recovery(estimate(x), estimate(x - gap), estimate(x), min_gap=2.0)
    assert got.value is None
    assert "too little" in got.reason


def test_seeds_are_averaged_and_their_spread_widens_the_interval() -> None:
    rng = np.random.default_rng(10)
    x = rng.normal(0, 1, 400)
    seeds = [estimate(x + offset, 2000) for offset in (-1.0, 0.0, 1.0)]
    got = combine_seeds(seeds)
    assert got.value == pytest.approx(np.mean([s.value for s in seeds]))
    assert got.draws is not None
    expected = x.var(ddof=1) / 400 + 1.0 / 3  # units + unbiased variance of the mean of three seeds
    assert got.draws.var() == pytest.approx(expected, rel=0.1)


def test_seeds_pair_seed_by_seed() -> None:
    x = np.random.default_rng(11).normal(0, 1, 100)
    a = combine_seeds([estimate(x + o + 0.1) for o in (-5.0, 5.0)])
    b = combine_seeds([estimate(x + o) for o in (-5.0, 5.0)])
    d = paired_difference(a, b)
    assert d.ci_low == pytest.approx(0.1, abs=1e-5)


def test_one_seed_is_itself() -> None:
    e = estimate(np.arange(5.0))
    assert combine_seeds([e]) is e


def test_many_paired_differences_are_those_taken_one_by_one() -> None:
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 1, 40)
    groups = tuple(f"g{i}" for i in range(40))
    cells = [estimate(50 + shared + rng.normal(0, 0.3, 40), 300, groups) for _ in range(12)]
    odd = Estimate(50.0, np.where(np.arange(300) % 30, cells[0].draws, np.nan).astype(np.float32), cells[0].key, 40)
    lost = Estimate(50.0, np.full(300, np.nan, np.float32), cells[0].key, 40)
    pairs = [
        *((a, b) for a in cells for b in cells), (cells[0], Estimate(3.0)), (odd, cells[0]), (cells[1], lost),
        (cells[0], estimate(shared, 200, groups)), (cells[0], estimate(shared[:30])),
    ]  # fmt: skip
    whole = paired_differences(pairs)
    assert whole == [paired_difference(*pair) for pair in pairs]
    asked = [i % 3 == 0 for i in range(len(pairs))]
    tested = paired_differences(pairs, asked)
    assert [d.p for d in tested] == [d.p for d in whole]
    assert [d for d, one in zip(tested, asked, strict=True) if one] == whole[::3]
    assert any(d.p is not None and d.ci_low is None for d in tested)


def test_two_repairs_are_compared_by_their_own_pairs_not_through_none() -> None:
    """The difference of two repairs is sharper than what their differences to `none` would give if independent."""
    rng = np.random.default_rng(6)
    shared = rng.normal(0, 10, 200)
    groups = tuple(f"g{i}" for i in range(200))
    none, a, b = (estimate(m + shared + rng.normal(0, 0.5, 200), 800, groups) for m in (50.0, 52.0, 52.5))
    direct = paired_difference(b, a)
    assert direct.delta == pytest.approx(b.value - a.value)
    through, other = paired_difference(a, none), paired_difference(b, none)
    width = [d.ci_high - d.ci_low for d in (direct, through, other) if d.ci_high is not None and d.ci_low is not None]
    assert direct.p is not None
    assert direct.p < 1e-6
    assert width[0] < np.hypot(width[1], width[2])
