"""J and F against davis2017-evaluation's own values, against brute force, and on the masks where they are odd."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from vitbench.metrics.tracking import MEASURES, boundary, contour, frame_statistics, object_statistics, region

M = {m.name: m for m in MEASURES}


def test_objects_of_a_propagated_video_have_the_values_of_the_released_code(shared: Path):
    masks, golden = (np.load(shared / "golden" / f"{n}.npz") for n in ("davis_propagation", "davis_metrics"))
    truth, found = masks["vidB__gt_masks"][1:-1], masks["vidB__default__masks"][1:-1]
    for i, number in enumerate((1, 2)):
        j = np.array([region(p == number, t == number) for p, t in zip(found, truth, strict=True)])
        f = np.array([contour(p == number, t == number) for p, t in zip(found, truth, strict=True)])
        np.testing.assert_allclose(j, golden["vidB__default__J"][i], atol=1e-12)
        np.testing.assert_allclose(f, golden["vidB__default__F"][i], atol=1e-12)
        stats = np.array([frame_statistics(j), frame_statistics(f)])
        np.testing.assert_allclose(stats, golden["vidB__default__stats_obj_JF_MRD"][i], atol=1e-12)


def slow_boundary(mask: np.ndarray) -> set[tuple[int, int]]:
    h, w = mask.shape
    found = set()
    for r in range(h):
        for c in range(w):
            for dr, dc in ((0, 1), (1, 0), (1, 1)):
                if r + dr < h and c + dc < w and mask[r, c] != mask[r + dr, c + dc]:
                    found.add((r, c))
    return found


def slow_contour(predicted: np.ndarray, truth: np.ndarray) -> float:
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    ours, theirs = slow_boundary(predicted), slow_boundary(truth)
    if not ours and not theirs:
        return 1.0
    if not ours or not theirs:
        return 0.0

    def near(a: set[tuple[int, int]], b: set[tuple[int, int]]) -> float:
        return sum(any((r - y) ** 2 + (c - x) ** 2 <= radius**2 for y, x in b) for r, c in a) / len(a)

    p, r = near(ours, theirs), near(theirs, ours)
    return 2 * p * r / (p + r) if p + r else 0.0


@settings(max_examples=80)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_boundaries_and_f_equal_the_slow_restatement(seed: int, h: int, w: int, density: float):
    rng = np.random.default_rng(seed)
    a, b = (rng.random((h, w)) < density for _ in range(2))
    assert set(zip(*np.nonzero(boundary(a)), strict=True)) == slow_boundary(a)
    assert contour(a, b) == pytest.approx(slow_contour(a, b))


def mask_at(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """A rectangle that may leave the image, or a few single pixels."""
    mask = np.zeros((h, w), bool)
    y, x = int(rng.integers(-h // 2, h)), int(rng.integers(-w // 2, w))
    down, right = y + int(rng.integers(1, h + 1)), x + int(rng.integers(1, w + 1))
    mask[max(y, 0) : max(down, 0), max(x, 0) : max(right, 0)] = rng.random() < 0.8
    mask[rng.integers(0, h, 3), rng.integers(0, w, 3)] ^= rng.random() < 0.5
    return mask


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("hw", [(60, 90), (1, 200), (200, 260)])
def test_f_in_wider_tolerances_is_that_of_dilation_by_a_disk(seed: int, hw: tuple[int, int]):
    rng = np.random.default_rng(seed)
    truth = mask_at(rng, *hw)
    found = np.roll(truth, rng.integers(-4, 5, 2), (0, 1)) if seed % 2 else mask_at(rng, *hw)
    radius = math.ceil(0.008 * math.hypot(*hw))
    away = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (away**2).sum(0) <= radius**2
    ours, theirs = boundary(found), boundary(truth)
    if not ours.any() or not theirs.any():
        assert contour(found, truth) == float(ours.any() == theirs.any())
        return
    precision = (ours & ndimage.binary_dilation(theirs, disk)).sum() / ours.sum()
    recall = (theirs & ndimage.binary_dilation(ours, disk)).sum() / theirs.sum()
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert contour(found, truth) == pytest.approx(expected)


def test_a_square_shifted_within_the_tolerance_has_a_full_f_and_a_lower_j():
    truth, moved, far = np.zeros((3, 100, 100), bool)
    truth[20:60, 20:60] = moved[22:62, 20:60] = far[25:65, 20:60] = True
    assert math.ceil(0.008 * math.hypot(100, 100)) == 2
    assert contour(moved, truth) == 1
    assert region(moved, truth) == pytest.approx(38 / 42)
    assert 0 < contour(far, truth) < 1


def test_empty_against_empty_is_right_and_against_something_wrong():
    nothing, something, everything = np.zeros((9, 9), bool), np.zeros((9, 9), bool), np.ones((9, 9), bool)
    something[3:6, 3:6] = True
    assert region(nothing, nothing) == contour(nothing, nothing) == 1
    assert region(nothing, something) == contour(nothing, something) == contour(something, nothing) == 0
    assert (region(everything, nothing), contour(everything, nothing)) == (0, 1)  # neither has a boundary


def test_decay_of_a_ramp_is_right_beyond_255_frames_too():
    # The reference casts bin bounds to uint8: NaN at 300 frames, 0.004 at 1,030.
    for frames in (40, 300, 1030):
        assert frame_statistics(np.linspace(1, 0, frames))[2] == pytest.approx(0.75, abs=0.02)
    assert frame_statistics(np.array([0.7])) == (0.7, 1.0, 0.0)


def test_recall_counts_values_strictly_above_a_half():
    assert frame_statistics(np.array([0.5, 0.5, 0.6, 0.4]))[1] == 0.25


def test_the_mean_is_over_objects_and_j_and_f_count_alike():
    long, short = object_statistics(np.full(9, 0.2), np.full(9, 0.4)), object_statistics(np.ones(1), np.ones(1))
    sums = {name: np.array(long[name] + short[name]) for name in long}
    assert M["J"].value(sums, {}) == pytest.approx(60)
    assert M["J&F"].value(sums, {}) == pytest.approx((60 + 70) / 2)
    assert np.isnan(M["J&F"].value(dict.fromkeys(long, np.zeros(())), {}))
