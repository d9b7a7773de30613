"""Bilinear resizing: torch's numbers without torch, and any part of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitbench.tokens.bilinear import bilinear

SIZES = [((37, 50), (61, 83)), ((60, 70), (33, 20)), ((128, 96), (90, 171)), ((5, 3), (64, 1)), ((200, 150), (57, 219))]


def noise(hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(hw).integers(0, 256, (*hw, 3), dtype=np.uint8)


def interpolated(image: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    out = torch.nn.functional.interpolate(x, hw, mode="bilinear", align_corners=False)
    return out[0].permute(1, 2, 0).round().clamp(0, 255).numpy().astype(np.uint8)


@pytest.mark.parametrize("before, after", SIZES)
def test_pixels_are_those_of_torch(before: tuple[int, int], after: tuple[int, int]) -> None:
    image = noise(before)
    found, expected = bilinear(image, after).astype(int), interpolated(image, after).astype(int)
    assert found.shape == (*after, 3)
    # Equal where torch fuses multiplication and addition as its builds for x86 do; elsewhere some may round the other way.
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 1e-3


@pytest.mark.parametrize("before, after", SIZES)
def test_a_part_is_that_part_of_the_whole(before: tuple[int, int], after: tuple[int, int]) -> None:
    image, rows, columns = noise(before), slice(after[0] // 3, after[0] - 1), slice(after[1] // 4, None)
    np.testing.assert_array_equal(bilinear(image, after, rows, columns), bilinear(image, after)[rows, columns])


def test_what_is_seen_the_wrong_way_round_in_memory_is_resized_the_same() -> None:
    image = noise((30, 40))
    np.testing.assert_array_equal(bilinear(image[:, ::-1], (50, 21)), bilinear(image[:, ::-1].copy(), (50, 21)))
