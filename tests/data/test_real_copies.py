"""What copies of released data sets really hold: encodings, extra files and folders that the miniatures do not show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tests.data.conftest import Install
from vitbench.data.load import load

# -- NAVI --------------------------------------------------------------------------------------------------------------


def _as_the_authors_decode(path: Path) -> np.ndarray:
    """Metres: google/navi, data_util.py, decode_depth with its scale factor of 10, which gives millimetres."""
    disparity = np.asarray(Image.open(path)).astype(np.float32) / ((2**16 - 1) * 10.0)
    with np.errstate(divide="ignore"):
        return np.where(disparity > 0, 1 / disparity, 0) / 1000


def test_depth_of_navi_is_stored_as_its_inverse_and_zero_is_no_object(install: Install, tmp_path: Path) -> None:
    install("navi")
    file = tmp_path / "navi_v1/a_toy/wild_set/depth/001.png"
    values = np.asarray(Image.open(file)).copy()
    values[:20] = 0
    values[20] = 655  # just over a metre
    Image.fromarray(values).save(file)
    depth = {s["key"]: s["depth"] for s in load("navi", "wild", targets=("depth",), root=tmp_path)}[
        "a_toy/wild_set/001"
    ]
    np.testing.assert_allclose(depth, _as_the_authors_decode(file), rtol=1e-6)
    assert (depth[:20] == 0).all()
    assert abs(depth[20, 0] - 1.00053) < 1e-4


def test_images_of_navi_are_turned_as_exif_says(install: Install, tmp_path: Path) -> None:
    mini = install("navi")
    place = tmp_path / "navi_v1/a_toy/wild_set"
    with Image.open(place / "images/001.jpg") as stored:
        assert stored.getexif()[0x0112] == 6
        upright = np.asarray(ImageOps.exif_transpose(stored))
    sample = {s["key"]: s for s in load("navi", "wild", targets=("depth",), root=tmp_path)}["a_toy/wild_set/001"]
    np.testing.assert_array_equal(sample["image"], upright)
    assert np.abs(upright.astype(int) - mini.scenes["a_toy/wild_set/001"].image).mean() < 8


def test_a_pose_of_navi_says_what_the_task_of_views_reads(install: Install, tmp_path: Path) -> None:
    install("navi")
    file = tmp_path / "navi_v1/a_toy/wild_set/annotations.json"
    content = json.loads(file.read_text())
    content[1]["image_size"] = [3024, 4032]  # height, width
    file.write_text(json.dumps(content))
    sample = load("navi", "wild", targets=("depth", "pose"), root=tmp_path)[1]
    assert sample["pose_hw"] == [3024, 4032]
    assert sample["pose"]["focal_px"] == 3000.0
    assert sample["pose"]["translation_m"] == [0, 0.1, 1.5]


def test_videos_of_navis_second_version_are_left_out(install: Install, tmp_path: Path) -> None:
    install("navi")
    assert (tmp_path / "navi_v1/a_toy/video-00-canon/annotations.json").is_file()
    assert all("/multiview" in key for key in load("navi", "train", targets=("depth",), root=tmp_path)["key"])
