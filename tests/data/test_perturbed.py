"""Changed scenes: the first sample is the scene, the others show it from another place under ever more change."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vitbench.backbones.load import load_backbone
from vitbench.catalogue import DATASETS
from vitbench.catalogue.tasks.retrieval import InstanceSettings
from vitbench.data import perturbed
from vitbench.data.load import load
from vitbench.data.scenes import SMALLEST_PART, render
from vitbench.tasks.base import Batch
from vitbench.tasks.instance_retrieval import InstanceRetrieval
from vitbench.tasks.memory import MemoryStream
from vitbench.tokens.types import TokenRequest

from ..tasks.streams import context

SIZE = 96
ROOM = SIZE * (perturbed.WIDER - 1)  # pixels a window may move by


def corners(index: int) -> np.ndarray:
    """First row and column of the windows of the first sample and of the others."""
    return np.rint(ROOM * perturbed.places(6, index)).astype(int)


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


def test_the_first_sample_is_a_window_of_the_scene_as_it_is():
    scene = render(6, 2, round(SIZE + ROOM))
    top, left = corners(2)[0]
    window = slice(top, top + SIZE), slice(left, left + SIZE)
    made = perturbed.blurred(6, 2, 0, SIZE)
    np.testing.assert_array_equal(made["image"], scene.image[window])
    np.testing.assert_array_equal(made["segmentation"], scene.instances[window])


@pytest.mark.parametrize("index", range(3))
def test_the_second_sample_is_the_first_moved_and_in_another_light_pixel_by_pixel(index):
    first, second = (perturbed.blurred(6, index, level, SIZE) for level in (0, 1))
    down, right = np.diff(corners(index), axis=0)[0]
    both = [
        (slice(max(0, down), SIZE + min(0, down)), slice(max(0, right), SIZE + min(0, right))),
        (slice(max(0, -down), SIZE + min(0, -down)), slice(max(0, -right), SIZE + min(0, -right))),
    ]
    np.testing.assert_array_equal(first["segmentation"][both[0]], second["segmentation"][both[1]])
    lit, dimmed = first["image"][both[0]].reshape(-1, 3).astype(float), second["image"][both[1]].reshape(-1, 3)
    gain = (lit * dimmed).sum(0) / (lit * lit).sum(0)
    inner = lit < 255  # brighter ones were clipped before, or after
    assert np.abs(lit * gain - dimmed)[inner].max() < 6
    assert (gain < 1.01).all()
    assert np.ptp(gain) > 0.02


def test_every_scene_moves_far_on_both_axes_and_each_to_a_side_of_its_own():
    shifts = np.array([np.diff(corners(index), axis=0)[0] for index in range(40)])
    assert np.abs(shifts).min() >= ROOM // 2
    assert np.abs(shifts).max() <= ROOM
    assert len(np.unique(shifts, axis=0)) > 30
    assert {tuple(signs) for signs in np.sign(shifts)} == set(itertools.product((-1, 1), repeat=2))


@pytest.mark.parametrize("change", perturbed.CHANGES)
def test_change_grows_from_the_second_sample_on_and_is_the_same_each_time(change):
    made = [perturbed.CHANGES[change](6, 2, level, SIZE) for level in range(perturbed.LEVELS)]
    away = [np.abs(m["image"].astype(float) - made[1]["image"]).mean() for m in made[1:]]
    assert away[0] == 0
    assert all(b > a for a, b in itertools.pairwise(away)) or change == "zoom"
    for m in made[1:]:
        assert change == "zoom" or np.array_equal(m["boxes"], made[1]["boxes"])
    for level, m in enumerate(made):
        np.testing.assert_array_equal(perturbed.CHANGES[change](6, 2, level, SIZE)["image"], m["image"])


def test_zoom_shows_objects_larger_around_the_same_place():
    """The middle of the window stays where it was, but where the edge of the scene is in the way."""
    for index in range(4):
        near, nearer = (perturbed.zoomed(6, index, level, SIZE)["segmentation"] for level in (1, 4))
        quarter = slice(SIZE // 4, SIZE - SIZE // 4)
        grown = near[quarter, quarter].repeat(2, 0).repeat(2, 1)
        assert (grown == nearer).mean() > 0.9


@pytest.mark.parametrize("change", perturbed.CHANGES)
def test_objects_keep_their_numbers_and_those_cut_have_the_box_of_what_is_seen_of_them(change):
    for index, level in itertools.product(range(2), range(perturbed.LEVELS)):
        made = perturbed.CHANGES[change](6, index, level, SIZE)
        areas = np.bincount(made["segmentation"].ravel(), minlength=2)[1:]
        assert made["boxes_track"].tolist() == (np.flatnonzero(areas >= SMALLEST_PART * SIZE**2) + 1).tolist()
        for box, number in zip(made["boxes"], made["boxes_track"], strict=True):
            rows, cols = np.nonzero(made["segmentation"] == number)
            assert box.tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]


def found(name: str, level: int, scenes: int = 8) -> float:
    """Share of the objects at a level that a backbone finds among those of the first samples."""
    backbone = load_backbone(name)
    samples = [
        perturbed.blurred(6, index, shown, 192) | {"frames": {"index": shown, "count": perturbed.LEVELS}}
        for index in range(scenes)
        for shown in (0, level)
    ]
    keys = [f"{index}/{shown}" for index in range(scenes) for shown in (0, level)]
    tokens = backbone.tokens([sample["image"] for sample in samples], TokenRequest(("patch",)), keys)
    rows = InstanceRetrieval(InstanceSettings()).measure(None, MemoryStream([Batch(tokens, samples)]), context())
    return float(rows.stats["hit"].mean())


def test_a_trained_backbone_finds_objects_again_which_blur_prevents_and_controls_do_not():
    """Moved and in another light but not blurred: so the controls lose, which they must."""
    controls = [found(name, 1) for name in ("random_vit", "patch_colour", "position_only")]
    clear, blurred = found("lab_ssl", 1), found("lab_ssl", 4)
    assert clear > 0.8
    assert max(controls) < clear / 2
    assert blurred < clear / 1.5


def test_unknown_splits_are_named():
    with pytest.raises(ValueError, match="train, val"):
        perturbed.load_blur("test")
