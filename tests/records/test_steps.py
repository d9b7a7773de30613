"""Steps in a series: found where they are, never in noise or in a series that does not move."""

from __future__ import annotations

import numpy as np
import pytest

from vitbench.records.inference import Estimate
from vitbench.records.steps import find_steps

SHARED = np.random.default_rng(0).normal(0, 1.0, 200)


def night(value: float, own: float = 0.05, seed: int = 0, key: str = "k") -> Estimate:
    """A measurement whose units' difficulty is shared with all others, plus a little of its own."""
    draws = value + SHARED + np.random.default_rng(seed).normal(0, own, 200)
    return Estimate(value, draws.astype(np.float32), key, 50)


def test_nights_that_repeat_to_the_bit_have_no_step() -> None:
    assert find_steps([night(50.0)] * 30) == []


@pytest.mark.parametrize("at", [1, 7, 19])
def test_a_step_is_found_between_the_right_two_nights(at: int) -> None:
    (step,) = find_steps([night(50.0 if i < at else 49.0, seed=i) for i in range(20)], least=0.5)
    assert step.at == at
    assert step.delta == pytest.approx(-1.0)
    assert step.ci_low < -1.0 < step.ci_high < -0.5
    assert step.p < 1e-6


def test_several_steps_are_told_apart_and_measured_between_their_neighbours() -> None:
    levels = [50.0] * 5 + [48.0] * 6 + [51.0] * 4
    steps = find_steps([night(v, seed=i) for i, v in enumerate(levels)], least=0.5)
    assert [s.at for s in steps] == [5, 11]
    assert [s.delta for s in steps] == pytest.approx([-2.0, 3.0])


def test_a_step_smaller_than_what_matters_is_none() -> None:
    assert find_steps([night(50.0)] * 5 + [night(49.9)] * 5, least=0.5) == []


def test_noise_between_nights_is_no_step_more_often_than_alpha() -> None:
    """Runs that scatter beyond their units' spread: the scatter itself must widen the test."""
    rng = np.random.default_rng(1)
    found = sum(bool(find_steps([night(50.0 + rng.normal(0, 0.4), seed=i) for i in range(12)])) for _ in range(200))
    assert found <= 18  # binomial bound of 99 % for 200 draws at 0.05


def test_two_nights_are_enough_with_replicates_and_too_few_without() -> None:
    assert [s.at for s in find_steps([night(50.0), night(48.0, seed=1)], least=0.5)] == [1]
    assert find_steps([Estimate(50.0), Estimate(48.0)]) == []
    bare = [Estimate(v) for v in (50.0, 50.1, 49.9, 50.0, 48.0, 48.1, 47.9, 48.0)]
    assert [s.at for s in find_steps(bare, least=0.5)] == [4]


def test_nights_resampled_otherwise_are_taken_by_their_scatter_alone() -> None:
    mixed = [night(50.0 + 0.1 * (i % 2), key=str(i)) for i in range(6)]
    assert find_steps(mixed, least=0.05) == []


def test_one_night_and_none_have_no_step() -> None:
    assert find_steps([]) == []
    assert find_steps([night(50.0)]) == []
