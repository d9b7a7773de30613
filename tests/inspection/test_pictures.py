"""Images to look at: whatever their size, the backbone gets whole patches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitbench.errors import NothingSelectedError, UsageError
from vitbench.inspection.pictures import fitted, gather


@pytest.mark.parametrize("hw", [(480, 640), (37, 300), (5, 5), (192, 192)])
def test_both_sides_are_multiples_of_the_patch_and_the_longer_one_is_bounded(hw: tuple[int, int]) -> None:
    picture = fitted("x", np.zeros((*hw, 3), np.uint8), 14, 224)
    h, w, _ = picture.pixels.shape
    assert h % 14 == 0
    assert w % 14 == 0
    assert max(h, w) <= 224
    assert min(h, w) >= 14
    if min(hw) > 14:
        assert abs(h / w - hw[0] / hw[1]) / (hw[0] / hw[1]) < 14 / min(h, w)


def test_an_image_that_fits_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    assert np.array_equal(fitted("x", pixels, 8, 64).pixels, pixels)


def test_files_folders_and_scenes_come_in_the_order_given_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name, value in (("b.png", 2), ("inner/a.png", 1), ("c.png", 3)):
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / name)
    for name in ("masks", "depth"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name / "b.png")
    (tmp_path / "notes.txt").write_text("no image")
    found = gather([str(tmp_path / "c.png"), str(tmp_path), "scenes:1"], 4)
    assert [name for name, _ in found] == ["c.png", "b.png", "c.png", "a.png"]
    assert found[0][1][0, 0, 0] == 3
    [scene] = gather(["scenes:1"], 9)
    assert scene[0] == "scene 1"
    assert scene[1].shape == (192, 192, 3)


def test_what_is_no_image_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file .*photo\.jpg"):
        gather([str(tmp_path / "photo.jpg")], 1)
    with pytest.raises(NothingSelectedError, match="no image in"):
        gather([str(tmp_path)], 1)
    with pytest.raises(UsageError, match="no scene '500'"):
        gather(["scenes:500"], 1)
    with pytest.raises(UsageError, match="no image named"):
        gather([], 1)
