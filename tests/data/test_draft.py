"""JPEGs decoded at a fraction of their size where only a small one is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitbench.catalogue.views import View
from vitbench.data.images import read_image
from vitbench.data.scenes import render
from vitbench.plan import DRAFT_FACTOR
from vitbench.tokens.views import place

GREY_LEVELS = 1.0  # what the network input may move by on average; resampling backends differ by more


def save(path: Path, hw: tuple[int, int]) -> Path:
    scene = render(3, 1, max(hw)).image
    Image.fromarray(scene[: hw[0], : hw[1]]).save(path, quality=90)
    return path


@pytest.mark.parametrize(
    "hw, least, expected",
    [
        ((256, 320), 100, (128, 160)),
        ((256, 320), 128, (128, 160)),
        ((256, 320), 129, (256, 320)),
        ((256, 320), 30, (32, 40)),
        ((255, 320), 100, (255, 320)),
        ((260, 320), 50, (65, 80)),
        ((256, 320), 0, (256, 320)),
    ],
)
def test_only_whole_fractions_that_keep_enough_are_taken(
    hw: tuple[int, int], least: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    assert read_image(save(tmp_path / "a.jpg", hw), least_px=least).shape[:2] == expected


def test_other_formats_are_read_whole(tmp_path: Path) -> None:
    Image.fromarray(render(3, 1, 128).image).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", least_px=16).shape == (128, 128, 3)


@pytest.mark.parametrize("size", [32, 48])
def test_network_input_of_real_photographs_stays_within_a_grey_level(size: int, shared: Path) -> None:
    view, taken = View("crop", size), 0
    for path in sorted((shared / "data/coco128/val/images").iterdir())[:40]:
        least = DRAFT_FACTOR * view.resize_px
        whole, small = read_image(path), read_image(path, least_px=least)
        taken += small.shape != whole.shape
        a, b = (place(image, view, 16)[0][0].astype(int) for image in (whole, small))
        assert np.abs(a - b).mean() < GREY_LEVELS, path.name
    assert taken >= 10, "the test must meet images that are decoded smaller"
