"""Token arrays as pictures: equal colours mean equal directions, whatever a repair did to scale and channels."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from vitbench.reports.colours import FLAGGED, MUTED, data_uri, flagged, heat, mosaic, palette, pca_rgb


@pytest.fixture
def tokens() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 3, (3, 12))
    return (centres[np.arange(48).reshape(6, 8) % 3] + rng.normal(0, 0.1, (6, 8, 12))).astype(np.float32)


def test_the_same_tokens_scaled_and_shifted_have_the_same_colours(tokens: np.ndarray) -> None:
    [[plain], [moved]] = pca_rgb([[tokens], [tokens * 40 + 7]])
    assert plain.shape == (6, 8, 3)
    assert plain.dtype == np.uint8
    assert np.abs(plain.astype(int) - moved.astype(int)).max() <= 1


def test_tokens_of_one_kind_have_one_colour_and_kinds_differ(tokens: np.ndarray) -> None:
    [[rgb]] = pca_rgb([[tokens]])
    kinds = [rgb.reshape(-1, 3)[np.arange(48) % 3 == k].astype(int) for k in range(3)]
    assert all(np.ptp(kind[:, :2], axis=0).max() < 40 for kind in kinds)
    assert np.abs(kinds[0].mean(0) - kinds[1].mean(0)).max() > 60


def test_images_of_a_group_share_the_basis(tokens: np.ndarray) -> None:
    [[a, b]] = pca_rgb([[tokens, tokens[:3]]])
    assert np.array_equal(a[:3], b)


def test_fewer_channels_or_other_weights_keep_the_colours_by_correlation(tokens: np.ndarray) -> None:
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0].astype(np.float32)
    [[plain], [dropped], [other]] = pca_rgb([[tokens], [tokens[..., :9]], [tokens @ turned]], [False, False, True])
    for rgb in (dropped, other):
        for channel in range(2):
            assert np.corrcoef(plain[..., channel].ravel(), rgb[..., channel].ravel())[0, 1] > 0.8


def test_a_few_loud_tokens_do_not_take_the_basis(tokens: np.ndarray) -> None:
    loud = tokens.copy()
    loud[0, 0] = 1000
    [[plain]], [[rgb]] = pca_rgb([[tokens]]), pca_rgb([[loud]])
    rest = np.ones((6, 8), bool)
    rest[0, 0] = False
    assert abs(np.corrcoef(plain[rest][:, 0], rgb[rest][:, 0])[0, 1]) > 0.9


def test_constant_tokens_and_few_channels_do_not_break() -> None:
    [[rgb]] = pca_rgb([[np.ones((2, 2, 1), np.float32)]])
    assert rgb.shape == (2, 2, 3)


def test_heat_runs_from_low_to_high() -> None:
    rgb = heat(np.array([[-5.0, 0.0, 1.0, 9.0]]), 0, 1)
    assert np.array_equal(rgb[0, 0], rgb[0, 1])
    assert np.array_equal(rgb[0, 2], rgb[0, 3])
    assert rgb[0, 2].sum() > rgb[0, 0].sum()


def test_flagged_cells_are_orange_on_grey() -> None:
    mask = np.zeros((2, 3), bool)
    mask[1, 2] = True
    out = flagged(np.full((16, 24, 3), (10, 200, 90), np.uint8), mask)
    assert tuple(out[1, 2]) == FLAGGED
    assert all(len(set(pixel)) == 1 for pixel in out[~mask].tolist())


def test_a_mosaic_holds_every_map() -> None:
    maps = np.stack([np.full((2, 3), v, np.float32) for v in (0.1, 0.5, 1.0)])
    out = mosaic(maps, 1.0)
    assert out.shape == (5, 7, 3)
    assert np.array_equal(out[:2, 4:], heat(maps[1], 0, 1, "magma"))
    assert np.array_equal(out[3:, :3], heat(maps[2], 0, 1, "magma"))


def test_a_png_within_a_page_is_exact() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (5, 4, 3), np.uint8)
    head, _, code = data_uri(rgb).partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))), rgb)


def test_the_palette_has_as_many_colours_as_names() -> None:
    assert len({tuple(c) for c in palette().tolist()}) == len(MUTED)
