"""Augmentation: image and target stay together, ranges are those of the recipes, the generator decides everything."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from vitbench.data.augment import (
    DepthAugment,
    SegmentationAugment,
    fitted_hw,
    nearest,
    photometric,
    resized,
    rotated,
    without_border,
)


def coded(hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels in big blocks, and an image that shows the label in every channel."""
    labels = np.kron(np.arange(12).reshape(3, 4), np.ones((hw[0] // 3, hw[1] // 4))).astype(np.int64)
    return np.repeat(labels[..., None] * 20, 3, 2).astype(np.uint8), labels


def test_sizes_follow_the_side_that_is_reached_first() -> None:
    assert fitted_hw((480, 640), 512, 2048) == (512, 683)
    assert fitted_hw((100, 1000), 512, 2048) == (205, 2048)  # the longer side stops it
    assert fitted_hw((100, 1000), 512, None) == (512, 5120)


def test_bilinear_equals_opencvs_formula_and_nearest_takes_the_floor() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    found = resized(image, (12, 5))
    for r, c in ((0, 0), (5, 3), (11, 4)):
        y, x = np.clip((r + 0.5) * 7 / 12 - 0.5, 0, 6), np.clip((c + 0.5) * 9 / 5 - 0.5, 0, 8)
        y0, x0 = int(y), int(x)
        y1, x1, fy, fx = min(y0 + 1, 6), min(x0 + 1, 8), y - int(y), x - int(x)
        top = image[y0, x0] * (1 - fx) + image[y0, x1] * fx
        bottom = image[y1, x0] * (1 - fx) + image[y1, x1] * fx
        np.testing.assert_allclose(found[r, c], top * (1 - fy) + bottom * fy, atol=0.51)
    assert nearest(np.arange(7)[:, None].repeat(2, 1), (3, 2))[:, 0].tolist() == [0, 2, 4]


def test_crops_show_the_labels_where_the_image_shows_them() -> None:
    image, labels = coded((96, 128))
    augment = SegmentationAugment(96, None, 64, hue=0.0)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        flat = np.random.default_rng(0)
        crop, cut = augment(image, labels, rng)
        assert crop.shape[:2] == cut.shape
        assert max(cut.shape) <= 64
        # Colours change monotonically in a crop, so equal labels have equal grey inside blocks.
        inner = [(c, crop[cut == c].mean()) for c in np.unique(cut) if (cut == c).sum() > 30]
        values = [v for _, v in inner]
        assert values == sorted(values), flat


@pytest.mark.parametrize("seed", range(6))
def test_a_crop_is_cut_from_the_whole_image_as_it_is_scaled(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    labels = np.kron(rng.integers(0, 3, (7, 9)), np.ones((10, 10))).astype(np.uint8)
    labels[:6] = 255
    augment = SegmentationAugment(60, 200, 48, cat_max_ratio=0.6)
    crop, cut = augment(image, labels, np.random.default_rng(seed))

    rng = np.random.default_rng(seed)
    ratio = rng.uniform(0.5, 2)
    hw = fitted_hw((70, 90), int(60 * ratio), int(200 * ratio))
    whole, scaled = resized(image, hw), nearest(labels, hw)
    for _ in range(11):
        y, x = rng.integers(max(hw[0] - 48, 0) + 1), rng.integers(max(hw[1] - 48, 0) + 1)
        part = scaled[y : y + 48, x : x + 48]
        counts = np.unique(part[part != 255], return_counts=True)[1]
        if len(counts) > 1 and counts.max() / counts.sum() < 0.6:
            break
    seen = whole[y : y + 48, x : x + 48]
    if rng.random() < 0.5:
        seen, part = seen[:, ::-1], part[:, ::-1]
    np.testing.assert_array_equal(crop, photometric(seen, rng, 0.1))
    np.testing.assert_array_equal(cut, part)


def test_the_same_generator_gives_the_same_crop_and_another_another() -> None:
    image, labels = coded((96, 128))
    augment = SegmentationAugment(96, 400, 48)
    a, b, c = (augment(image, labels, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(a[0], b[0])
    assert np.array_equal(a[1], b[1])
    assert a[0].shape != c[0].shape or not np.array_equal(a[0], c[0])


def test_a_crop_of_mostly_one_class_is_drawn_again() -> None:
    labels = np.zeros((100, 100), np.int64)
    labels[40:60, 40:60] = 1
    image = np.zeros((100, 100, 3), np.uint8)

    def share(cat_max_ratio: float) -> float:
        augment = SegmentationAugment(100, None, 30, 1.0, 1.0, cat_max_ratio)
        cuts = [augment(image, labels, np.random.default_rng(s))[1] for s in range(60)]
        return float(np.mean([1 in cut and (cut == 1).mean() > 0.25 for cut in cuts]))

    assert share(0.75) > share(1.1) + 0.2


class _Counted(np.random.Generator):
    """A generator that knows how many places it has drawn."""

    drawn = 0

    def integers(self, *args, **kwargs):
        self.drawn += 1
        return super().integers(*args, **kwargs)


def test_a_crop_is_drawn_again_ten_times_and_then_taken_as_it_is() -> None:
    rng = _Counted(np.random.PCG64(0))
    SegmentationAugment(64, None, 24)(np.zeros((80, 90, 3), np.uint8), np.zeros((80, 90), np.uint8), rng)
    assert rng.drawn == 2 * 11


def test_photometric_ranges_and_hue() -> None:
    grey = np.full((4, 4, 3), 100, np.uint8)
    outs = [photometric(grey, np.random.default_rng(s), 0.0) for s in range(300)]
    values = np.array([o[0, 0, 0] for o in outs])
    assert values.min() >= (100 - 32) * 0.5 - 2
    assert values.max() <= (100 + 32) * 1.5 + 2
    assert (values == 100).mean() > 0.15  # a quarter has neither brightness nor contrast changed
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 200
    hues = [colorsys.rgb_to_hsv(*photometric(red, np.random.default_rng(s), 0.1)[0, 0] / 255)[0] for s in range(200)]
    turned = np.minimum(hues, 1 - np.array(hues))
    assert 0.08 < turned.max() <= 0.105
    assert (
        max(
            min(h, 1 - h)
            for h in (
                colorsys.rgb_to_hsv(*photometric(red, np.random.default_rng(s), 0.5)[0, 0] / 255)[0] for s in range(200)
            )
        )
        > 0.4
    )


def test_depth_loses_the_border_and_follows_the_image() -> None:
    assert without_border((480, 640)) == (slice(45, 472), slice(43, 608))
    depth = np.tile(np.arange(1, 129, dtype=np.float32), (96, 1))
    image = np.repeat(depth[..., None], 3, 2).astype(np.uint8)
    augment = DepthAugment(60, 80, "nyu", degrees=0.0, gamma=(1, 1), brightness=(1, 1), colour=(1, 1))
    flipped = set()
    for seed in range(12):
        crop, cut = augment(image, depth, np.random.default_rng(seed))
        assert crop.shape == (60, 80, 3)
        np.testing.assert_array_equal(crop[..., 0], cut.astype(np.uint8))
        flipped.add(bool(cut[0, 0] > cut[0, -1]))
    assert flipped == {True, False}


def test_rotation_moves_both_and_leaves_no_depth_in_the_corners() -> None:
    depth = np.ones((40, 60), np.float32)
    depth[:, 30:] = 2
    image = np.repeat((depth * 100)[..., None], 3, 2).astype(np.uint8)
    turned, flat = rotated(image, depth, 10.0)
    assert flat[0, 0] == 0
    away = (np.abs(turned[..., 0] / 100 - flat) > 0.2) & (flat > 0)
    assert away.mean() < 0.1
    assert set(np.unique(flat)) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize("hw", [(30, 20), (500, 40)])
def test_images_smaller_than_the_crop_are_kept_whole(hw: tuple[int, int]) -> None:
    crop, cut = SegmentationAugment(20, None, 512, 1.0, 1.0)(
        np.zeros((*hw, 3), np.uint8), np.zeros(hw, np.int64), np.random.default_rng(0)
    )
    assert crop.shape[:2] == cut.shape
    assert min(cut.shape) == 20
