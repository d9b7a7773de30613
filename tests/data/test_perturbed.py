"""Changed scenes: the first sample is the scene, the others show the same objects under ever more change."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vitbench.catalogue import DATASETS
from vitbench.data import perturbed
from vitbench.data.load import load
from vitbench.data.scenes import SMALLEST_PART, render, render_clip

SIZE = 96


@pytest.mark.parametrize("change", perturbed.CHANGES)
def test_cards_agree_with_the_generator_and_samples_carry_their_targets(change):
    card = DATASETS.get(f"scenes_{change}")
    assert dict(card.splits) == {name: count for name, (_, count) in perturbed.SPLITS.items()}
    assert card.version == perturbed.VERSION
    sample = load(card.name, "val", limit=7)[6]
    assert sample["image"].shape[:2] == card.size_px
    assert {*card.targets, "boxes_track"} <= set(sample)
    assert sample["key"] == f"scenes_{change}-val-0001/01"
    assert sample["frames"] == {"video": f"scenes_{change}-val-0001", "index": 1, "count": 5}


@pytest.mark.parametrize("change", perturbed.CHANGES)
def test_the_first_sample_is_the_scene_the_second_its_mirror_later_and_then_change_grows(change):
    clean = render(6, 2, SIZE)
    made = [perturbed.CHANGES[change](6, 2, level, SIZE) for level in range(perturbed.LEVELS)]
    np.testing.assert_array_equal(made[0]["image"], clean.image)
    np.testing.assert_array_equal(made[0]["boxes"], clean.boxes)
    later = render_clip(6, 2, perturbed.LATER_FRAMES + 1, SIZE)[-1]
    np.testing.assert_array_equal(made[1]["segmentation"], later.instances[:, ::-1])
    assert (made[1]["image"].mean((0, 1)) < clean.image.mean((0, 1))).all()
    away = [np.abs(m["image"].astype(float) - made[1]["image"]).mean() for m in made[1:]]
    assert away[0] == 0
    assert all(b > a for a, b in itertools.pairwise(away)) or change == "zoom"
    for m in made[1:]:
        assert change == "zoom" or np.array_equal(m["boxes"], made[1]["boxes"])
    again = perturbed.CHANGES[change](6, 2, 4, SIZE)
    np.testing.assert_array_equal(again["image"], made[4]["image"])


def test_zoomed_boxes_are_those_of_what_is_still_seen():
    for level in range(1, perturbed.LEVELS):
        made = perturbed.zoomed(6, 1, level, SIZE)
        assert len(made["boxes"]) == len(made["boxes_track"]) >= 1
        for box, number in zip(made["boxes"], made["boxes_track"], strict=True):
            rows, cols = np.nonzero(made["segmentation"] == number)
            assert box.tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
            assert rows.size >= SMALLEST_PART * SIZE**2


def test_unknown_splits_are_named():
    with pytest.raises(ValueError, match="train, val"):
        perturbed.load_blur("test")
