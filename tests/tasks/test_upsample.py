"""Sampling the grid at label pixels."""

from __future__ import annotations

import numpy as np
import torch

from vitbench.tasks.upsample import LabelSampler
from vitbench.tokens.geometry import Geometry, Placement

PATCH, GRID = 4, (5, 7)


def geometry(placement: Placement) -> Geometry:
    return Geometry(PATCH, GRID, (placement,))


def grid(k: int = 3) -> torch.Tensor:
    return torch.randn(*GRID, k, generator=torch.Generator().manual_seed(0))


def bilinear(x: torch.Tensor, hw: tuple[int, int]) -> torch.Tensor:
    return torch.nn.functional.interpolate(x.permute(2, 0, 1)[None], hw, mode="bilinear", align_corners=False)[0]


def test_equals_interpolate_where_the_view_is_the_image():
    sampler = LabelSampler(geometry(Placement((20, 28), (20, 28), (20, 28))), 0, (20, 28))
    torch.testing.assert_close(sampler.values(grid()), bilinear(grid(), (20, 28)))
    assert np.array_equal(sampler.classes(grid()), bilinear(grid(), (20, 28)).argmax(0).numpy())


def test_equals_interpolate_to_another_label_size():
    sampler = LabelSampler(geometry(Placement((50, 63), (20, 28), (20, 28), (2.5, 2.25))), 0, (100, 126))
    torch.testing.assert_close(sampler.values(grid()), bilinear(grid(), (100, 126)), atol=1e-5, rtol=1e-5)


def test_padding_is_cut_off():
    sampler = LabelSampler(geometry(Placement((17, 26), (20, 28), (17, 26))), 0, (17, 26))
    torch.testing.assert_close(sampler.values(grid()), bilinear(grid(), (20, 28))[:, :17, :26])


def test_a_crop_scores_what_it_shows():
    sampler = LabelSampler(geometry(Placement((40, 40), (20, 28), (20, 28), (1.0, 1.0), (8.0, 6.0))), 0, (40, 40))
    assert (sampler.rows, sampler.cols) == (slice(8, 28), slice(6, 34))
    torch.testing.assert_close(sampler.values(grid()), bilinear(grid(), (20, 28)))


def test_a_mirrored_view_is_mirrored_back():
    plain = LabelSampler(geometry(Placement((20, 28), (20, 28), (20, 28))), 0, (20, 28))
    mirrored = LabelSampler(geometry(Placement((20, 28), (20, 28), (20, 28), flipped=True)), 0, (20, 28))
    torch.testing.assert_close(mirrored.values(grid().flip(1)), plain.values(grid()))


def test_a_class_that_no_train_image_shows_leaves_the_others_as_they_are():
    """Its score is -inf; beside a weight of zero that is no number, and every pixel was given to it."""
    sampler = LabelSampler(geometry(Placement((20, 28), (20, 28), (20, 28))), 0, (20, 28))
    unseen = torch.full((*GRID, 1), -torch.inf)
    assert np.array_equal(sampler.classes(torch.cat([unseen, grid()], -1)), sampler.classes(grid()) + 1)


def test_strips_do_not_change_classes(monkeypatch):
    sampler = LabelSampler(geometry(Placement((20, 28), (20, 28), (20, 28))), 0, (20, 28))
    expected = sampler.classes(grid())
    monkeypatch.setattr("vitbench.tasks.upsample._VALUES", 100)
    assert np.array_equal(sampler.classes(grid()), expected)
