"""Views of one object: geometry by hand, matches against brute force, and a plane seen by two cameras."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.tasks.correspondence import ViewSettings
from vitbench.data.navi import crop_to_object
from vitbench.errors import DataError
from vitbench.metrics import measures
from vitbench.metrics.matches3d import match_statistics
from vitbench.tasks.object_views import Camera, sampled_depth
from vitbench.tasks.view_correspondence import ViewCorrespondence, nearest

from .clip_streams import views_stream
from .streams import context

EVERY = ViewSettings(every=1)


def values(rows):
    return {m.name: float(m.value(rows.sums(), rows.info)) for m in measures("matches3d")}


def test_cameras_turn_and_project_as_they_should():
    pose = {"quaternion": [np.cos(0.3), 0, np.sin(0.3), 0], "translation_m": [0.1, -0.2, 2.0], "focal_px": 80.0}
    camera = Camera.of(pose, (120, 160), (60, 80))
    assert camera.focal_px == 40
    assert camera.centre_px.tolist() == [40, 30]
    points = np.random.default_rng(0).normal(size=(20, 3)) * 0.3
    seen = points @ camera.rotation.T + camera.translation
    assert np.allclose(camera.to_object(camera.to_pixels(points), seen[:, 2]), points)
    assert np.allclose(camera.rotation @ [0, 0, 1], [np.sin(0.6), 0, np.cos(0.6)])
    plain = Camera.of({**pose, "quaternion": [2, 0, 0, 0]}, (120, 160), (60, 80))
    assert np.allclose(plain.rotation, np.eye(3))
    assert camera.degrees_from(plain) == pytest.approx(np.degrees(0.6))


def test_a_crop_moves_the_centre_and_keeps_the_focal_length():
    depth = np.zeros((60, 80), np.float32)
    depth[10:30, 40:50] = 1.5
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)
    pose = {"quaternion": [1, 0, 0, 0], "translation_m": [0, 0, 1.5], "focal_px": 100.0}
    sample = {"image": image, "depth": depth, "pose": pose, "pose_hw": [120, 160]}
    cut = crop_to_object(sample, DatasetCard("navi", None, "", {}, ()))
    assert cut["image"].shape == (40, 40, 3)
    assert cut["depth"].shape == (20, 20)
    assert cut["pose"]["crop"] == [70, 20, 160, 120]
    whole, part = (Camera.of(s["pose"], (120, 160), s["image"].shape[:2]) for s in (sample, cut))
    assert part.focal_px == whole.focal_px
    assert np.allclose(part.centre_px + np.array([70, 20]), whole.centre_px)
    assert crop_to_object({**sample, "depth": depth * 0}, DatasetCard("navi", None, "", {}, ()))["image"] is image


def test_depth_is_read_at_the_middle_of_every_few_pixels_where_there_is_an_object():
    stream = views_stream(1, 2, "val", 0)
    depth = np.zeros((48, 48), np.float32)
    depth[4:8, 8:12] = 2.0
    index, xy, found = sampled_depth(stream.batches[0].tokens.geometry, 0, depth, 4)
    assert (index.tolist(), xy.tolist(), found.tolist()) == ([14], [[10.0, 6.0]], [2.0])
    assert len(sampled_depth(stream.batches[0].tokens.geometry, 0, depth[::2, ::2], 4)[0]) == 1


@pytest.mark.parametrize("ratio_test", [True, False])
def test_nearest_equals_brute_force(ratio_test):
    rng = np.random.default_rng(0)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rng.normal(size=(30, 5)), rng.normal(size=(40, 5))))
    sure, index = nearest(torch.from_numpy(a), torch.from_numpy(b), ratio_test)
    for i in range(30):
        distance = 1 - a[i] @ b.T
        order = np.argsort(distance)
        assert index[i] == order[0]
        expected = 1 - distance[order[0]] / distance[order[1]] if ratio_test else 1 - distance[order[0]]
        assert sure[i] == pytest.approx(expected)
    assert len(nearest(torch.from_numpy(a), torch.from_numpy(b[:1]), ratio_test)[0]) == 30


def test_a_plane_whose_tokens_know_its_points_is_found_again_from_another_side():
    right = values(ViewCorrespondence(EVERY).measure(None, views_stream(2, 4, "val", 0, noise=0.0), context()))
    wrong = values(ViewCorrespondence(EVERY).measure(None, views_stream(2, 4, "val", 0, noise=30.0), context()))
    assert right["recall_5cm"] > 90
    assert right["recall_25px"] > 95
    assert wrong["recall_5cm"] < 50
    assert right["recall_3d"] == pytest.approx(np.mean([right[f"recall_{cm}cm"] for cm in (1, 2, 5)]))


def test_every_fourth_image_has_a_partner_of_its_object_within_reach():
    stream = views_stream(3, 4, "val", 0)
    rows = ViewCorrespondence(ViewSettings()).measure(None, stream, context())
    assert len(rows) == 3
    assert set(rows.group_id) == {"thing0", "thing1", "thing2"}
    for unit in rows.unit_id:
        source, partner = unit.partition("#")[2].split("~")
        assert source != partner
        assert source.partition("/")[0] == partner.partition("/")[0] == unit.partition("#")[0]
    again = ViewCorrespondence(ViewSettings()).measure(None, stream, context())
    assert again.unit_id == rows.unit_id
    with pytest.raises(DataError, match="no object has two images"):
        ViewCorrespondence(replace(EVERY, most_degrees=0.001)).measure(None, stream, context())


def test_pairs_count_in_the_bin_of_their_rotation():
    stats = match_statistics(np.array([0.005, 0.015, 0.03, 0.2]), np.array([1.0, 10, 30, 99]), 45.0)
    found = {m.name: float(m.value({k: np.array(v) for k, v in stats.items()}, {})) for m in measures("matches3d")}
    assert [found[f"recall_{cm}cm"] for cm in (1, 2, 5)] == [25, 50, 75]
    assert [found[f"recall_{px}px"] for px in (5, 25, 50)] == [25, 50, 75]
    assert found["recall_2cm_30_60deg"] == 50
    assert np.isnan(found["recall_2cm_0_30deg"])
    assert match_statistics(np.zeros(1), np.zeros(1), 120.0)["n_90_120"] == 1
    assert match_statistics(np.zeros(0), np.zeros(0), 10.0)["n"] == 0
