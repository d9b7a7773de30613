"""Soft patch labels against pixel loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitbench.errors import DataError
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.patch_labels import batch_soft_labels, class_count, mean_log_depth, soft_labels

from .streams import batch, context


def test_equals_counting_pixels_one_by_one():
    rng = np.random.default_rng(0)
    view = rng.integers(0, 5, (12, 8))
    view[rng.random(view.shape) < 0.4] = 255
    view[:4, :4] = 255
    labels, share = soft_labels(view, 4, 5)
    for r in range(3):
        for c in range(2):
            cell = view[4 * r : 4 * r + 4, 4 * c : 4 * c + 4].ravel()
            valid = cell[cell != 255]
            assert share[r, c] == pytest.approx(len(valid) / 16)
            expected = [(valid == k).mean() if len(valid) else 0 for k in range(5)]
            np.testing.assert_allclose(labels[r, c], expected, rtol=1e-6)
    assert share[0, 0] == 0


def test_padding_is_not_labelled_and_errors_name_the_image():
    made = batch({"patch": torch.zeros(1, 2, 2, 1)}, [{"image_hw": (8, 6), "segmentation": np.ones((8, 6), int)}], 4)
    labels, share = batch_soft_labels(made, 2, 255)
    assert share[0].tolist() == [[1, 0.5], [1, 0.5]]
    assert np.array_equal(labels[0, ..., 1], np.ones((2, 2)))
    with pytest.raises(DataError, match="image 'im0': label 1 is outside the 1 classes"):
        batch_soft_labels(made, 1, 255)


def test_class_count_is_declared_or_found_in_train():
    made = batch({"patch": torch.zeros(1, 1, 1, 1)}, [{"image_hw": (4, 4), "segmentation": np.full((4, 4), 6)}], 4)
    assert class_count(MemoryStream([made]), context(classes=9)) == 9
    assert class_count(MemoryStream([made]), context()) == 7
    made.targets[0]["segmentation"] = np.full((4, 4), 255)
    with pytest.raises(DataError, match="no pixel"):
        class_count(MemoryStream([made]), context())


def test_mean_log_depth_skips_what_is_not_valid():
    view = np.array([[1.0, 4.0, 0.0, 0.0], [0.0, 100.0, 0.0, 0.0]])
    values, share = mean_log_depth(view, 2, 1e-3, 10)
    assert values[0].tolist() == pytest.approx([np.log(2), 0])
    assert share[0].tolist() == [0.5, 0]
