"""CorLoc against torchvision's IoU and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou as reference_iou

from vitbench.metrics.boxes import MEASURES, box_iou, centre_box, localisation, whole_image_box

M = {m.name: m for m in MEASURES}


def test_iou_equals_torchvision():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 50, (21, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 40, (21, 2))], axis=1)
    expected = reference_iou(torch.tensor(boxes[:1]), torch.tensor(boxes[1:]))[0].numpy()
    np.testing.assert_allclose(box_iou(boxes[0], boxes[1:]), expected, atol=1e-7)


def test_a_shift_by_one_pixel_can_decide():
    box = np.array([0, 0, 10, 10.0])
    assert localisation(box, np.array([[0, 0, 10, 20]]), (40, 40))["hit"] == 0  # 1e-7 keeps an exact half below
    assert localisation(box, np.array([[0, 0, 10, 19]]), (40, 40))["hit"] == 1


def test_any_of_the_true_boxes_counts():
    truth = np.array([[30, 30, 40, 40], [1, 1, 10, 10]])
    assert localisation(np.array([0, 0, 10, 10]), truth, (40, 40))["hit"] == 1


def test_baselines_and_degenerate_boxes_stand_beside_corloc():
    hw = (40, 60)
    stats = localisation(whole_image_box(hw), np.array([[0, 0, 60, 30]]), hw)
    assert stats["hit_whole_image"] == stats["hit"] == stats["degenerate"] == 1
    centre = centre_box(hw)
    assert (centre[2] - centre[0]) * (centre[3] - centre[1]) == pytest.approx(0.5 * 40 * 60)
    stats = localisation(np.array([0, 0, 60, 37]), centre[None], hw)
    assert stats["hit_centre_box"] == 1
    assert stats["degenerate"] == 0


def test_an_image_without_boxes_counts_nowhere_but_in_its_own_column():
    stats = localisation(np.array([0, 0, 4, 4]), np.zeros((0, 4)), (8, 8))
    assert stats["n_without"] == 1
    assert sum(stats.values()) == 1
    assert np.isnan(M["CorLoc"].value({k: np.array(v) for k, v in stats.items()}, {}))
