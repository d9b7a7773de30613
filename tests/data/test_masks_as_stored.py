"""Masks as optimisers and authors store them: few bits, palettes with transparency, several channels."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import Install
from vitbench.data.load import load


def _grey_png(values: np.ndarray, bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits a pixel, which Pillow does not write; values h w."""
    bit_planes = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :]
    rows = np.packbits(bit_planes.reshape(len(values), -1), axis=1)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    parts = (
        (b"IHDR", header),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    )
    chunks = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_indices_of_few_bits_are_not_stretched_to_grey(bits: int, install: Install, tmp_path: Path) -> None:
    install("camvid")
    values = np.arange(64 * 64).reshape(64, 64) % min(2**bits, 12)
    file = sorted((tmp_path / "CamVid/valannot").iterdir())[0]
    file.write_bytes(_grey_png(values, bits))
    sample = load("camvid", "val", targets=("segmentation",), root=tmp_path)[0]
    np.testing.assert_array_equal(sample["segmentation"], np.where(values == 11, 255, values))


def test_palette_masks_with_transparency_are_indices(install: Install, tmp_path: Path) -> None:
    mini = install("voc2012")
    for mask in (tmp_path / "VOCdevkit/VOC2012/SegmentationClass").glob("*.png"):
        with Image.open(mask) as stored:
            stored.save(mask, transparency=0)
    for sample in load("voc2012", "val", targets=("segmentation",), root=tmp_path):
        np.testing.assert_array_equal(sample["segmentation"], mini.scenes[sample["key"]].segmentation)


@pytest.mark.parametrize(
    "mode", ["RGB", "RGBA", "LA", "1", "P", "I;16", "grey of 4 bits", "zero and one", "palette of two"]
)
def test_saliency_masks_of_any_mode_are_read(mode: str, install: Install, tmp_path: Path) -> None:
    """DUTS has masks of three channels among those of one."""
    mini = install("duts_te")
    file = sorted((tmp_path / "DUTS-TE/DUTS-TE-Mask").iterdir())[0]
    expected = mini.scenes[file.stem].instances > 0
    white = Image.fromarray((expected * 255).astype(np.uint8))
    if mode == "grey of 4 bits":
        file.write_bytes(_grey_png(expected * 15, 4))
    elif mode == "zero and one":
        Image.fromarray(expected.astype(np.uint8)).save(file)
    elif mode == "palette of two":  # dark red, as VOC's first class
        indices = Image.fromarray(expected.astype(np.uint8), "P")
        indices.putpalette([0, 0, 0, 128, 0, 0])
        indices.save(file)
    elif mode == "I;16":
        Image.fromarray((expected * 65535).astype(np.uint16)).save(file)
    else:
        white.convert(mode).save(file)
    sample = load("duts_te", "val", targets=("segmentation",), root=tmp_path)[0]
    np.testing.assert_array_equal(sample["segmentation"], expected)
