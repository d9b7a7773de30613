"""Reading images, masks and depth maps, of all the kinds that people have."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitbench.data.images import orientation, read_depth, read_image, read_mask
from vitbench.errors import DataError

RAMP = np.linspace(0, 255, 60).astype(np.uint8).reshape(5, 4, 3)


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), RAMP)


@pytest.mark.parametrize("code", range(1, 9))
def test_exif_rotation_is_applied(code: int, tmp_path: Path) -> None:
    turned = {
        1: RAMP, 2: RAMP[:, ::-1], 3: RAMP[::-1, ::-1], 4: RAMP[::-1], 5: RAMP.transpose(1, 0, 2),
        6: np.rot90(RAMP, -1), 7: np.rot90(RAMP, 2).transpose(1, 0, 2), 8: np.rot90(RAMP),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = code
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), turned[code])
    assert orientation(tmp_path / "a.png") == code


def test_alpha_is_dropped_not_composited(tmp_path: Path) -> None:
    Image.fromarray(np.dstack((RAMP, np.zeros((5, 4), np.uint8)))).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), RAMP)


def test_grey_with_and_without_alpha_becomes_rgb(tmp_path: Path) -> None:
    grey = RAMP[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    image = Image.fromarray(grey)
    image.putalpha(Image.fromarray(grey // 2))
    image.save(tmp_path / "b.png")
    expected = np.repeat(grey[..., None], 3, 2)
    assert np.array_equal(read_image(tmp_path / "a.png"), expected)
    assert np.array_equal(read_image(tmp_path / "b.png"), expected)


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("transparent", [None, 1, bytes([0, 128])])
def test_a_palette_image_gives_its_colours(transparent: int | bytes | None, tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 210, 220])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", **({} if transparent is None else {"transparency": transparent}))
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [200, 210, 220]]]


def test_cmyk_and_one_bit_become_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (3, 2), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    Image.new("1", (3, 2), 1).save(tmp_path / "b.png")
    for name in ("a.jpg", "b.png"):
        assert read_image(tmp_path / name).shape == (2, 3, 3)
        assert read_image(tmp_path / name).min() > 250


def _truncated(kind: str) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


@pytest.mark.parametrize(
    "content",
    [b"", b"not an image", _truncated("PNG"), _truncated("JPEG"), _truncated("TIFF"), _truncated("WEBP")],
    ids=["empty", "text", "png", "jpeg", "tiff", "webp"],
)
def test_a_broken_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    for read in (read_image, read_mask, read_depth):
        with pytest.raises(DataError, match=r"broken\.png"):
            read(tmp_path / "broken.png")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*gone\.png"):
        read_image(tmp_path / "gone.png")


def test_floating_point_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="floating-point"):
        read_image(tmp_path / "a.tif")


def test_a_palette_mask_gives_indices_not_colours(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([2, 0, 1])
    image.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == [[2, 0, 1]]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_grey_mask_gives_its_values(kind: type, tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 7, 255]], kind)).save(tmp_path / "a.png")
    mask = read_mask(tmp_path / "a.png")
    assert mask.dtype == np.uint8
    assert mask.tolist() == [[0, 7, 255]]


def test_a_colour_mask_and_too_large_an_index_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "rgb.png")
    Image.fromarray(np.array([[300]], np.uint16)).save(tmp_path / "big.png")
    with pytest.raises(DataError, match="RGB"):
        read_mask(tmp_path / "rgb.png")
    with pytest.raises(DataError, match="300"):
        read_mask(tmp_path / "big.png")


def test_depth_png_is_millimetres_and_npy_is_metres(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1500, 65535]], np.uint16)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.array([[0, 1.5, np.inf, np.nan, -1]], np.float64))
    np.testing.assert_allclose(read_depth(tmp_path / "a.png"), [[0, 1.5, 65.535]])
    depth = read_depth(tmp_path / "a.npy")
    assert depth.dtype == np.float32
    assert depth.tolist() == [[0, 1.5, 0, 0, 0]]


def test_depth_that_is_not_depth_is_refused(tmp_path: Path) -> None:
    Image.fromarray(RAMP[..., 0]).save(tmp_path / "a.png")
    np.save(tmp_path / "int.npy", np.ones((2, 2), np.int32))
    np.save(tmp_path / "flat.npy", np.ones(4))
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], object), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "flat.npy").read_bytes()[:-9])
    for name in ("a.png", "int.npy", "flat.npy", "pickle.npy", "cut.npy"):
        with pytest.raises(DataError, match=name):
            read_depth(tmp_path / name)
