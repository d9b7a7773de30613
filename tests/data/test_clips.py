"""The lab's clips: frames in order, masks and points that agree with one another and with the flow of the generator."""

from __future__ import annotations

import numpy as np
import pytest

from vitbench.catalogue.datasets import CLIPS
from vitbench.data import clips
from vitbench.data.load import describe_split, load
from vitbench.data.scenes import CLASSES, OBJECT_CLASSES, render, render_clip

SIZE = 96


@pytest.fixture(scope="module")
def frames():
    return [clips.frame("val", 4, clip, t, SIZE) for clip in range(2) for t in range(clips.FRAMES)]


def test_the_card_agrees_with_the_generator() -> None:
    assert dict(CLIPS.splits) == {name: count for name, (_, count) in clips.SPLITS.items()}
    assert CLIPS.version == clips.VERSION
    assert CLIPS.label_classes == tuple(CLASSES[c] for c in OBJECT_CLASSES)
    sample = load("clips", "val", limit=1)[0]
    assert sample["image"].shape[:2] == CLIPS.size_px
    assert {*CLIPS.targets, "image", "key"} <= set(sample)
    assert describe_split("clips", "val", limit=13)[0] == len(load("clips", "val", limit=13)) == 13


def test_a_clip_starts_with_the_still_and_repeats_itself(frames) -> None:
    np.testing.assert_array_equal(frames[0]["image"], render(4, 0, SIZE).image)
    clips._rendered.cache_clear()
    np.testing.assert_array_equal(frames[3]["image"], clips.frame("val", 4, 0, 3, SIZE)["image"])
    assert not np.array_equal(frames[0]["image"], frames[clips.FRAMES]["image"])


def test_frames_of_a_video_lie_side_by_side_in_order() -> None:
    samples = load("clips", "val", limit=12).select_columns(["key"])
    assert samples.with_format(None)["key"][8:] == [
        "clips-val-0000/08", "clips-val-0000/09", "clips-val-0001/00", "clips-val-0001/01",
    ]  # fmt: skip


def test_masks_number_the_objects_of_the_first_frame_only(frames) -> None:
    for start in (0, clips.FRAMES):
        known = set(np.unique(frames[start]["segmentation"]))
        assert {0} < known
        for t in range(clips.FRAMES):
            assert set(np.unique(frames[start + t]["segmentation"])) <= known


def test_points_follow_the_flow_of_the_generator(frames) -> None:
    scenes = render_clip(4, 0, 2, SIZE)
    made = clips._rendered(4, 0, SIZE)
    pairs = [p for n in made[1][0].box_instances if (p := clips._pair("clip", *made, int(n), 1)) is not None]
    assert len(pairs) > 1
    for pair in pairs:
        cols, rows = (pair["source_xy"] - 0.5).astype(int).T
        flow = scenes[0].flow[rows, cols]
        np.testing.assert_allclose(pair["target_xy"], pair["source_xy"] + flow, atol=1e-3)
        assert scenes[0].flow_valid[rows, cols].all()


def test_points_lie_on_their_object_in_both_frames(frames) -> None:
    for start in (0, clips.FRAMES):
        pairs = frames[start]["keypoints"]
        assert {p["target"][-2:] for p in pairs} == {"03", "06", "09"}
        for pair in pairs:
            number, t = (int(v) for v in pair["pair"].split("-")[-2:])
            later = frames[start + t]["segmentation"]
            assert 1 <= len(pair["source_xy"]) <= clips.POINTS
            for mask, points in ((frames[start]["segmentation"], pair["source_xy"]), (later, pair["target_xy"])):
                cols, rows = np.floor(points).astype(int).T
                assert (mask[rows, cols] == number).all()
            x0, y0, x1, y1 = pair["target_box"]
            x, y = pair["target_xy"].T
            assert (x >= x0).all()
            assert (x <= x1).all()
            assert (y >= y0).all()
            assert (y <= y1).all()


def test_only_first_frames_start_pairs(frames) -> None:
    assert all(not frames[t]["keypoints"] for t in range(1, clips.FRAMES))


def test_unknown_splits_are_named() -> None:
    with pytest.raises(ValueError, match="train, val"):
        clips.load("test")


def test_the_light_changes_after_the_first_frame_and_targets_do_not(frames) -> None:
    still = render_clip(4, 0, clips.FRAMES, SIZE)
    for t, (scene, frame) in enumerate(zip(still, frames, strict=False)):
        np.testing.assert_array_equal(frame["depth"], scene.depth)
        share = frame["image"].sum((0, 1)) / scene.image.sum((0, 1))
        assert (share == 1).all() if t == 0 else (share >= clips.DIMMEST - 0.01).all() and (share < 1).all()
