"""Streaming statistics agree with those of the whole, whatever the batches."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitbench.repairs.contract import SyntheticContext
from vitbench.repairs.moments import ThinnedSample, median_and_mad, moments, rows


def test_moments_agree_with_numpy_on_all_tokens_at_once() -> None:
    context = SyntheticContext("patch", pad=2, grid_hw=(4, 5))
    stack = torch.cat([rows(tokens, "patch") for tokens in context.tokens()]).double()
    found, full = moments(context), moments(context, full=True)
    torch.testing.assert_close(found.mean, stack.mean(0), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.variance, stack.var(0, correction=0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(full.variance, stack.T.cov(correction=0), atol=1e-4, rtol=1e-4)


def test_a_large_offset_does_not_swallow_the_variance() -> None:
    far = SyntheticContext("patch", change=lambda t: t.with_field("patch", t["patch"] + 1000))
    near = SyntheticContext("patch")
    torch.testing.assert_close(moments(far).variance, moments(near).variance, rtol=1e-3, atol=1e-3)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8))
@settings(max_examples=40)
def test_a_thinned_sample_does_not_depend_on_the_batches(cuts: list[int]) -> None:
    values = torch.arange(float(sum(cuts)))
    whole, parts = ThinnedSample(room=16), ThinnedSample(room=16)
    whole.add(values)
    for part in values.split(cuts):
        parts.add(part)
    assert torch.equal(whole.values(), parts.values())
    assert len(whole.values()) <= 16


def test_median_and_mad_of_sorted_values() -> None:
    median, mad = median_and_mad(torch.tensor([1.0, 2.0, 3.0, 4.0, 100.0]))
    assert (float(median), float(mad)) == (3.0, 1.0)
