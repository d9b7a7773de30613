"""Views and the geometry that leads back to source pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitbench.catalogue.tasks import TASK_CARDS
from vitbench.catalogue.tasks.settings import identifying
from vitbench.catalogue.views import View
from vitbench.errors import DataError, UsageError
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.views import batch, normalise, place

RNG = np.random.default_rng(0)


def image(h: int, w: int) -> np.ndarray:
    return RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_whole_pads_at_bottom_and_right_and_marks_padding() -> None:
    pixels, geometry = batch(place(image(30, 45), View("whole"), 16), 16)
    assert pixels.shape == (1, 3, 32, 48)
    assert geometry.grid_hw == (2, 3)
    assert geometry.valid().all()
    padded = batch(place(image(32, 33), View("whole"), 16), 16)[1]
    assert padded.valid()[0].all()
    x = normalise(pixels, geometry, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), dtype=__import__("torch").float32)
    assert (x[0, :, 30:] == 0).all()
    assert (x[0, :, :, 45:] == 0).all()
    assert x[0, :, :30, :45].abs().sum() > 0


def test_resize_is_rounded_down_to_a_multiple_of_the_patch() -> None:
    pixels, _ = batch(place(image(60, 80), View("resize", 512), 14), 14)
    assert pixels.shape[-2:] == (504, 504)


@pytest.mark.parametrize(
    "view", [View("whole"), View("resize", 64), View("flip", 64), View("crop", 48), View("slide", 48)]
)
def test_a_box_goes_to_cells_and_back(view: View) -> None:
    placed = place(image(60, 100), view, 8)
    _, geometry = batch(placed, 8)
    h, w = geometry.grid_hw
    for i in range(len(geometry)):
        box = np.array([[1.0, 1.0, w - 1.0, h - 1.0]])
        source = geometry.to_pixels(i, box)[0]
        corners = geometry.to_cells(i, np.array([[source[0], source[1]], [source[2], source[3]]]))
        x = np.sort(corners[:, 0])
        np.testing.assert_allclose([x[0], corners[0, 1], x[1], corners[1, 1]], box[0], atol=1e-3)


def test_labels_are_placed_where_the_pixels_go() -> None:
    labels = np.zeros((60, 100), np.uint8)
    labels[:30, :50] = 7
    for kind in ("resize", "flip"):
        _, geometry = batch(place(image(60, 100), View(kind, 64), 8), 8)  # type: ignore[arg-type]
        seen = geometry.place_labels(0, labels)
        quadrant = seen[:32, 32:] if kind == "flip" else seen[:32, :32]
        assert (quadrant == 7).all()
        assert (seen == 7).sum() == 32 * 32


def test_padding_is_labelled_with_the_fill_value() -> None:
    _, geometry = batch(place(image(30, 30), View("whole"), 16), 16)
    seen = geometry.place_labels(0, np.ones((30, 30), np.uint8))
    assert (seen[:30, :30] == 1).all()
    assert (seen[30:] == 255).all()
    assert (seen[:, 30:] == 255).all()


def test_slide_covers_the_image_with_the_last_window_inside() -> None:
    placed = place(image(60, 100), View("slide", 48), 8)
    covered = np.zeros((60, 100), bool)
    for _, p in placed:
        y0, x0 = p.offset
        y1, x1 = y0 + 48 * p.scale[0], x0 + 48 * p.scale[1]
        covered[round(y0) : round(y1), round(x0) : round(x1)] = True
        assert y1 <= 60.01
        assert x1 <= 100.01
    assert covered.all()


def test_crop_takes_the_centre_after_resizing_the_shorter_side() -> None:
    [(pixels, placement)] = place(image(100, 200), View("crop", 224), 16)
    assert pixels.shape == (224, 224, 3)
    assert placement.scale[0] == pytest.approx(100 / 256)
    assert placement.offset[1] == pytest.approx((512 - 224) / 2 * 200 / 512)


def test_an_image_that_is_not_rgb_bytes_is_refused() -> None:
    with pytest.raises(DataError, match="uint8 h w 3"):
        place(np.zeros((8, 8)), View("whole"), 8)  # type: ignore[arg-type]


def test_a_view_without_a_size_is_refused() -> None:
    with pytest.raises(UsageError):
        View("resize")
    with pytest.raises(UsageError, match="unknown view"):
        View.parse("zoom", 3)


@pytest.mark.parametrize(
    "kind, patch, hw, expected",
    [
        ("davis", 16, (480, 854), (480, 832)),  # as DINO resizes DAVIS: 854 to a multiple of 64
        ("davis", 8, (854, 480), (832, 480)),
        ("davis", 14, (480, 854), (476, 840)),  # 14 divides neither 480 nor 64
        ("short", 16, (480, 854), (480, 848)),
        ("short", 14, (1080, 1920), (476, 840)),
        ("short", 16, (300, 300), (480, 480)),
        ("long", 16, (768, 1024), (352, 480)),
        ("long", 14, (1024, 768), (476, 350)),
        ("long", 16, (300, 300), (480, 480)),
    ],
)
def test_short_views_keep_the_proportions_up_to_the_patch(kind, patch, hw, expected):
    [(pixels, placement)] = place(np.zeros((*hw, 3), np.uint8), View(kind, 480), patch)
    assert pixels.shape[:2] == placement.view_hw == placement.content_hw == expected
    corner = Geometry(patch, (expected[0] // patch, expected[1] // patch), (placement,)).to_pixels(
        0, np.array([[0, 0, expected[1] / patch, expected[0] / patch]])
    )
    assert corner[0].tolist() == [0, 0, hw[1], hw[0]]


def test_a_short_view_of_images_of_its_size_is_whole():
    assert View("short", 192).simplest((192, 192), 8) == View("whole")
    assert View("davis", 480).simplest((480, 832), 16) == View("whole")
    assert View("davis", 480).simplest((480, 854), 16) == View("davis", 480)
    assert View("square", 192).simplest((192, 192), 8) == View("whole")


def test_a_square_view_adds_white_and_moves_no_point():
    image = np.zeros((40, 80, 3), np.uint8)
    [(pixels, placement)] = place(image, View("square", 40), 8)
    assert pixels[:18].max() < 60
    assert pixels[22:].min() > 200
    geometry = Geometry(8, (5, 5), (placement,))
    assert geometry.to_cells(0, np.array([[80.0, 40.0]])).tolist() == [[5, 2.5]]
    labels = geometry.place_labels(0, np.ones((40, 80), np.uint8))
    assert (labels[:20] == 1).all()
    assert (labels[20:] == 255).all()


def test_a_padded_square_keeps_its_size_amid_zeros_where_the_patch_does_not_divide_it():
    view = View("square", 40, pad=True)
    [(pixels, placement)] = place(np.full((40, 80, 3), 9, np.uint8), view, 7)
    assert (pixels.shape[:2], placement.view_hw, placement.content_at) == ((40, 40), (42, 42), (1, 1))
    x, geometry = batch([(pixels, placement)], 7)
    normal = normalise(x, geometry, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), torch.float32)
    assert normal[0, :, 0].abs().max() == normal[0, :, :, -1].abs().max() == 0 < normal[0, :, 1, 1:41].abs().min()
    assert geometry.to_cells(0, np.array([[0.0, 0.0], [80.0, 40.0]])) == pytest.approx(np.array([[1, 1], [41, 21]]) / 7)
    assert (geometry.place_labels(0, np.ones((40, 80), np.uint8)) == 1).sum() == 20 * 40
    assert (str(view), view.simplest((40, 40), 7)) == ("square40~pad", view)
    assert view.snapped(8) == View("square", 40)
    with pytest.raises(UsageError, match="square"):
        View("resize", 40, pad=True)


def test_frames_can_be_resized_as_opencv_does_which_is_another_view():
    image = np.random.default_rng(0).integers(0, 256, (90, 161, 3), dtype=np.uint8)
    view = View("davis", 64, resample="bilinear")
    [(pixels, placement)] = place(image, view, 16)
    assert placement.view_hw == (64, 64)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(x, (64, 64), mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    np.testing.assert_allclose(pixels, expected.round(), atol=1)
    [(smooth, _)] = place(image, View("davis", 64), 16)
    assert np.abs(pixels.astype(int) - smooth).max() > 50  # no antialiasing
    assert (str(view), str(View("davis", 64))) == ("davis64~bilinear", "davis64")
    assert view.simplest((64, 64), 16).kind == "whole"


def test_a_setting_says_how_frames_are_resized_and_is_no_part_of_what_was_measured_before():
    card = next(card for card in TASK_CARDS if card.name == "label_propagation")
    settings = card.protocol("dino").settings
    assert (card.view(settings).resample, "resample" in identifying(settings)) == ("bicubic", False)
    chosen = replace(settings, resample="bilinear")
    assert (card.view(chosen).resample, identifying(chosen)["resample"]) == ("bilinear", "bilinear")
