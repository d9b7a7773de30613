"""The lab's scenes: reproducible, the same at any size, and with targets that agree with one another."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from vitbench.data import scenes
from vitbench.data.scenes import CLASSES, IGNORE_INDEX, OBJECT_CLASSES, Scene, render, render_clip


@pytest.fixture(scope="module")
def some() -> list[Scene]:
    return [render(7, index, 192) for index in range(8)]


def test_the_same_seed_index_and_style_give_the_same_scene() -> None:
    first, second = render(7, 3, 96, 2), render(7, 3, 96, 2)
    for name in ("image", "segmentation", "depth", "instances", "boxes"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.image, render(8, 3, 96, 2).image)
    assert not np.array_equal(first.image, render(7, 4, 96, 2).image)


def test_another_style_changes_the_colours_and_no_target() -> None:
    first, second = render(7, 3, 96, 0), render(7, 3, 96, 1)
    for name in ("segmentation", "depth", "instances", "boxes", "label"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert np.abs(first.image.astype(int) - second.image).mean() > 10


def test_a_larger_picture_shows_the_same_scene() -> None:
    for index in range(4):
        small, large = render(7, index, 96), render(7, index, 192)
        shrunk = large.image.reshape(96, 2, 96, 2, 3).mean((1, 3))
        assert np.abs(shrunk - small.image).mean() < 6
        assert (large.instances[::2, ::2] == small.instances).mean() > 0.97
        assert small.label == large.label
        wall_and_floor = (small.instances == 0) & (large.instances[::2, ::2] == 0)
        ratio = large.depth[::2, ::2][wall_and_floor] / small.depth[wall_and_floor]
        assert np.median(np.abs(ratio - 1)) < 0.02
        shared = np.intersect1d(small.box_instances, large.box_instances)
        for number in shared:
            half = large.boxes[large.box_instances == number] / 2
            np.testing.assert_allclose(half, small.boxes[small.box_instances == number], atol=1.5)


def test_boxes_are_those_of_the_visible_parts(some: list[Scene]) -> None:
    for scene in some:
        assert len(scene.boxes) >= 1
        for box, number, klass in zip(scene.boxes, scene.box_instances, scene.box_classes, strict=True):
            rows, columns = np.nonzero(scene.instances == number)
            assert tuple(box) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            inside = scene.segmentation[scene.instances == number]
            assert set(np.unique(inside)) <= {klass, IGNORE_INDEX}


def test_the_ignored_outline_is_thin_and_lies_on_objects_only(some: list[Scene]) -> None:
    for scene in some:
        ignored = scene.segmentation == IGNORE_INDEX
        assert 0.01 < ignored.mean() < 0.15
        padded = np.pad(ignored, 1)
        around = np.stack([padded[1 + dy : 193 + dy, 1 + dx : 193 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
        assert (around.all(0)).mean() < 0.01
        objects = (scene.instances > 0) & ~ignored
        assert set(np.unique(scene.segmentation[objects])) <= set(OBJECT_CLASSES)
        assert set(np.unique(scene.segmentation[(scene.instances == 0) & ~ignored])) <= set(scenes.BACKGROUND_CLASSES)


def test_the_label_is_the_class_of_the_largest_visible_object(some: list[Scene]) -> None:
    for scene in some:
        largest = np.bincount(scene.instances.ravel())[1:].argmax() + 1
        values = scene.segmentation[scene.instances == largest]
        assert scene.label == np.bincount(values[values != IGNORE_INDEX]).argmax()


def test_classes_shown_are_those_of_boxes_and_what_has_none_is_unsure(some: list[Scene]) -> None:
    for scene in some:
        sure, unsure = scenes.shown(scene)
        assert sure == sorted(set(scene.box_classes.tolist()))
        assert scene.label in sure
        assert unsure == []
        hidden = replace(scene, box_classes=scene.box_classes[scene.box_classes != scene.label])
        assert scenes.shown(hidden) == ([number for number in sure if number != scene.label], [scene.label])
    assert max(len(scenes.shown(scene)[0]) for scene in some) >= 3
    row = scenes.load("val", limit=3, size=96)[1]
    assert (row["labels"], row["labels_unsure"]) == scenes.shown(render(scenes.SPLITS["val"][0], 1, 96))


def test_nearer_objects_hide_farther_ones_and_stand_before_the_wall(some: list[Scene]) -> None:
    for scene in some:
        assert scene.depth.dtype == np.float32
        assert scene.depth.min() > 0.5
        assert scene.depth.max() < 20
        means = [scene.depth[scene.instances == n].mean() for n in np.unique(scene.instances) if n > 0]
        assert all(far > near for far, near in itertools.pairwise(means))


def test_all_classes_occur_and_objects_cover_two_fifths() -> None:
    maps = np.stack([render(7, index, 48).segmentation for index in range(60)])
    shares = np.bincount(maps[maps != IGNORE_INDEX], minlength=len(CLASSES)) / (maps != IGNORE_INDEX).sum()
    assert shares.min() > 0.02
    assert 0.3 < shares[list(OBJECT_CLASSES)].sum() < 0.55


def test_mean_colour_does_not_tell_the_class() -> None:
    colours, classes = [], []
    for index in range(150):
        scene = render(7, index, 48)
        for number, klass in zip(scene.box_instances, scene.box_classes, strict=True):
            colours.append(scene.image[scene.instances == number].mean(0))
            classes.append(klass)
    points, truth = np.array(colours), np.array(classes)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    votes = truth[np.argsort(distance, 1)[:, :9]]
    guess = np.array([np.bincount(vote, minlength=6).argmax() for vote in votes])
    assert (guess == truth).mean() < 2 / 6


def test_flow_leads_to_the_same_surface_colour_and_object() -> None:
    clip = render_clip(7, 2, frames=4, size=192)
    rows, columns = np.mgrid[:192, :192]
    for scene, after in itertools.pairwise(clip):
        assert scene.flow is not None
        assert scene.flow_valid is not None
        assert 0.6 < scene.flow_valid.mean() <= 1
        to_x = np.floor(columns + 0.5 + scene.flow[..., 0]).astype(int)[scene.flow_valid]
        to_y = np.floor(rows + 0.5 + scene.flow[..., 1]).astype(int)[scene.flow_valid]
        np.testing.assert_array_equal(after.instances[to_y, to_x], scene.instances[scene.flow_valid])
        moved = after.image[to_y, to_x].astype(int)
        here = scene.image[scene.flow_valid].astype(int)
        still = after.image[scene.flow_valid].astype(int)
        assert np.abs(moved - here).mean() < 0.6 * np.abs(still - here).mean()
    assert clip[-1].flow is None


def test_flow_of_points_marked_occluded_ends_on_something_else() -> None:
    clip = render_clip(7, 2, frames=2, size=96)
    scene, after = clip
    assert scene.flow is not None
    assert scene.flow_valid is not None
    hidden = ~scene.flow_valid & (scene.instances > 0)
    rows, columns = np.nonzero(hidden)
    to_x = np.floor(columns + 0.5 + scene.flow[hidden][:, 0]).astype(int)
    to_y = np.floor(rows + 0.5 + scene.flow[hidden][:, 1]).astype(int)
    inside = (to_x >= 0) & (to_x < 96) & (to_y >= 0) & (to_y < 96)
    assert (after.instances[to_y[inside], to_x[inside]] != scene.instances[hidden][inside]).all()


def test_a_clip_starts_with_the_still_scene_and_moves() -> None:
    clip = render_clip(7, 5, frames=3, size=64)
    np.testing.assert_array_equal(clip[0].image, render(7, 5, 64).image)
    assert not np.array_equal(clip[1].image, clip[0].image)
    with pytest.raises(ValueError, match="at least one frame"):
        render_clip(7, 5, frames=0)


def test_splits_render_on_access_with_stable_keys_and_never_share_a_scene() -> None:
    train, val = scenes.load("train", limit=4, size=48), scenes.load("val", limit=3, size=48)
    assert (len(train), len(val), len(scenes.load("val", size=48))) == (4, 3, 500)
    row = val[2]
    assert row["key"] == "scenes-val-000002"
    assert row["image"].shape == (48, 48, 3)
    assert row["image"].dtype == np.uint8
    assert row["depth"].dtype == np.float32
    assert row["boxes"].shape[1] == 4
    np.testing.assert_array_equal(row["image"], render(scenes.SPLITS["val"][0], 2, 48).image)
    assert scenes.SPLITS["val"][0] != scenes.SPLITS["train"][0]
    with pytest.raises(ValueError, match="no split 'test'"):
        scenes.load("test")
