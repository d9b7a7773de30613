"""Average precision of classes that are present or not: scikit-learn, brute force, and resamples that rank again."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from vitbench.metrics import measures
from vitbench.metrics.multilabel import KINDS, average_precision, mean_average_precision
from vitbench.records.inference import draws_key, resamples, summarise
from vitbench.records.rows import Rows


def split(n: int = 40, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and marks of which some are unsure."""
    rng = np.random.default_rng(seed)
    marks = rng.choice([1, 0, 0, -1], (n, classes))
    return np.round(rng.normal(size=(n, classes)) + (marks == 1), 1), marks


def rows_of(scores: np.ndarray, marks: np.ndarray, kind: str, groups: tuple[str, ...] | None = None) -> Rows:
    keys = tuple(f"im{i}" for i in range(len(scores)))
    info = {"classes": [f"kind {k}" for k in range(scores.shape[1])], "ap": kind}
    return Rows(keys, groups or keys, {"score": scores, "mark": marks.astype(np.float64)}, info)


def brute_force(scores, marks, kind: str) -> float:
    """As VOC's devkit defines it: walk down the ranking, then look up precisions; images of equal score together."""
    pairs = [(s, m) for s, m in zip(scores, marks, strict=True) if m != -1]
    total = sum(m for _, m in pairs)
    curve = []
    for threshold in sorted({s for s, _ in pairs}, reverse=True):
        taken = [m for s, m in pairs if s >= threshold]
        curve.append((sum(taken), sum(taken) / len(taken)))
    if kind.startswith("voc07"):
        best = [max(p for found, p in curve if 10 * found >= j * total) for j in range(11)]
        return sum(best[1:], 1.0 if kind == "voc07_from_one" else best[0]) / 11
    area, before = 0.0, 0
    for i, (found, _) in enumerate(curve):
        area += (found - before) / total * max(p for _, p in curve[i:])
        before = found
    return area


@pytest.mark.parametrize("seed", range(6))
def test_the_area_is_scikit_learns(seed: int) -> None:
    scores, marks = split(seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(scores)).astype(float)
    for s, m in zip(scores.T, marks.T, strict=True):
        kept = m != -1
        assert average_precision(s, m, np.ones(len(s)), "area") == pytest.approx(
            average_precision_score(m[kept], s[kept])
        )
        assert average_precision(s, m, weights, "area") == pytest.approx(
            average_precision_score(m[kept], s[kept], sample_weight=weights[kept])
        )


@pytest.mark.parametrize("kind", ["voc07", "voc07_from_one", "voc10"])
@pytest.mark.parametrize("seed", range(4))
def test_the_other_kinds_are_what_walking_down_the_ranking_gives(seed: int, kind: str) -> None:
    scores, marks = split(30, seed=seed)
    for s, m in zip(scores.T, marks.T, strict=True):
        assert average_precision(s, m, np.ones(len(s)), kind) == pytest.approx(brute_force(s, m, kind))


def test_the_kinds_of_a_hand_made_ranking() -> None:
    scores, marks = np.array([4.0, 3, 2, 1]), np.array([0, 1, 0, 1])
    found = {kind: float(average_precision(scores, marks, np.ones(4), kind)) for kind in KINDS}
    assert found == pytest.approx({"voc07": 0.5, "voc07_from_one": (1 + 10 * 0.5) / 11, "area": 0.5, "voc10": 0.5})
    marks = np.array([1, 0, 1, 0])
    found = {kind: float(average_precision(scores, marks, np.ones(4), kind)) for kind in KINDS}
    assert found["voc07"] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)  # recalls 0 to 0.5 at precision 1
    assert found["area"] == found["voc10"] == pytest.approx((1 + 2 / 3) / 2)


def test_three_of_ten_are_a_recall_of_three_tenths() -> None:
    # 3 / 10 is less than numpy.linspace(0, 1, 11)[3]; in whole numbers it is not.
    marks = np.array([1] * 3 + [0] * 90 + [1] * 7)
    found = average_precision(-np.arange(100.0), marks, np.ones(100), "voc07")
    assert found == pytest.approx((4 * 1 + 7 * 0.1) / 11)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_images_and_unsure_ones_change_nothing(kind: str) -> None:
    scores, marks = split()
    order = np.random.default_rng(1).permutation(len(scores))
    expected = mean_average_precision(scores, marks, kind)
    assert mean_average_precision(scores[order], marks[order], kind) == pytest.approx(expected)
    scores[marks == -1] = 99.0
    assert mean_average_precision(scores, marks, kind) == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_scores_give_the_share_of_images_that_show_the_class(kind: str) -> None:
    marks = np.array([1, 0, 0, 0])
    expected = 0.25 if kind != "voc07_from_one" else (1 + 10 * 0.25) / 11
    assert average_precision(np.zeros(4), marks, np.ones(4), kind) == pytest.approx(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_that_no_image_shows_is_not_in_the_mean(kind: str) -> None:
    scores, marks = split(classes=2)
    alone = mean_average_precision(scores[:, :1], marks[:, :1], kind)
    marks[:, 1] = np.where(marks[:, 1] == 1, 0, marks[:, 1])
    assert mean_average_precision(scores, marks, kind) == pytest.approx(alone)
    found = summarise(rows_of(scores, marks, kind), measures("multilabel", rows_of(scores, marks, kind).info), draws=20)
    assert found["mAP"].value == pytest.approx(100 * alone)
    assert found["AP_kind 1"].value is None
    assert np.isnan(mean_average_precision(scores[:, 1:], marks[:, 1:], kind))
    assert np.isnan(average_precision(scores[:, 0], np.full(len(scores), -1), np.ones(len(scores)), kind))


@pytest.mark.parametrize("kind", KINDS)
def test_resamples_rank_the_resampled_images_again(kind: str) -> None:
    scores, marks = split(24)
    groups = tuple(f"g{i // 2}" for i in np.random.default_rng(2).permutation(24))
    rows = rows_of(scores, marks, kind, groups)
    found = summarise(rows, measures("multilabel", rows.info), draws=30)["mAP"]
    names = sorted(set(groups))
    weights = np.concatenate(list(resamples(draws_key(groups, 30, 0), len(names), 30)))
    assert found.draws is not None
    for draw, counts in zip(found.draws, weights, strict=True):
        picked = [
            i for g, n in zip(names, counts, strict=True) for _ in range(int(n)) for i in range(24) if groups[i] == g
        ]
        assert draw == pytest.approx(100 * mean_average_precision(scores[picked], marks[picked], kind), rel=1e-5)
    assert found.ci_low is not None
    assert found.ci_high is not None
    assert found.ci_low <= found.value <= found.ci_high  # type: ignore[operator]
