"""A field and an artefact are told apart, on tokens made from known ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vitbench.backbones.crops import crop_points, grid_points, random_crops
from vitbench.backbones.neural_field import (
    Bank,
    FieldSettings,
    ImageField,
    corners,
    fit_field,
    reconstruction,
    schedule,
)

GRID, WIDTH = (6, 8), 12
SETTINGS = FieldSettings(levels=3, features=6, coarsest=4, finest=16, steps=400, tokens=128, rate=0.01)


def _scene(points: Tensor) -> Tensor:
    """F, n WIDTH: waves over the image."""
    x, y = points[:, :1], points[:, 1:]
    k = torch.arange(1, WIDTH // 3 + 1)
    return torch.cat([(2 * math.pi * x * k / 3).sin(), (2 * math.pi * y * k / 3).cos(), x * y * k + 1], dim=1)


def _mixture() -> tuple[Bank, Tensor, Tensor, Tensor]:
    """Tokens of an image and 40 crops of it with a pattern of the place in the view; nodes, the image's points, its F."""
    random = torch.Generator().manual_seed(3)
    crops = random_crops((480, 640), 40, random)
    own = grid_points(GRID, "centres").flatten(0, 1)
    places = torch.cat([own, *(crop_points(c, (480, 640), GRID, "centres").flatten(0, 1) for c in crops)])
    pattern = 0.5 * torch.randn(GRID[0] * GRID[1], WIDTH, generator=random)
    pattern -= pattern.mean(0)
    nodes = own * torch.tensor([GRID[1], GRID[0]]) - 0.5
    y = _scene(places) + pattern.repeat(41, 1)
    return Bank(y, places), nodes.repeat(41, 1), own, pattern


def _fitted(seed: int = 0) -> tuple[ImageField, Bank, Tensor, Tensor, Tensor]:
    bank, cells, own, pattern = _mixture()
    return fit_field(bank, cells, GRID, SETTINGS, torch.Generator().manual_seed(seed)), bank, own, pattern, cells


def test_the_field_is_nearer_to_the_scene_than_the_tokens_and_the_artefact_is_the_pattern() -> None:
    field, bank, own, pattern, cells = _fitted()
    scene = _scene(own)
    raw = functional.mse_loss(bank.y[: len(own)], scene)
    assert functional.mse_loss(field.at(own), scene) < 0.25 * raw
    artefact = field.artefact - field.artefact.mean(0)
    assert functional.cosine_similarity(artefact.flatten(), pattern.flatten(), dim=0) > 0.95
    freed = field.freed(bank.y[: len(own)], cells[: len(own)])
    assert functional.mse_loss(freed, scene) < 0.25 * raw


def test_a_seed_gives_the_same_bits_under_inference_and_another_seed_does_not() -> None:
    with torch.inference_mode():
        first = _fitted()[0]
    torch.manual_seed(5)
    second, other = _fitted()[0], _fitted(seed=1)[0]
    assert torch.equal(first.artefact, second.artefact)
    assert not torch.equal(first.artefact, other.artefact)


def test_sampling_is_that_of_grid_sample() -> None:
    random = torch.Generator().manual_seed(0)
    sizes, points = [(5, 7), (3, 2)], torch.rand(20, 2, generator=random)
    tables = [torch.randn(h * w, 4, generator=random) for h, w in sizes]
    nodes = torch.stack([points * torch.tensor([w - 1, h - 1]) for h, w in sizes], dim=1)
    sampled = corners(nodes, sizes).sample(torch.cat(tables), torch.arange(20))
    for i, ((h, w), table) in enumerate(zip(sizes, tables, strict=True)):
        image = table.T.reshape(1, 4, h, w)
        expected = functional.grid_sample(image, points.view(1, 1, 20, 2) * 2 - 1, align_corners=True)
        torch.testing.assert_close(sampled[:, 4 * i : 4 * i + 4], expected[0, :, 0].T)


def test_the_loss_and_its_gradient_are_those_of_the_formula() -> None:
    random = torch.Generator().manual_seed(0)
    made, y = (torch.randn(9, 5, generator=random, dtype=torch.float64) for _ in range(2))
    made.requires_grad_(True)
    cosine = functional.cosine_similarity(made, y, dim=-1)
    expected = functional.mse_loss(made, y) + 1 - cosine.mean()
    assert float(reconstruction(made, y).detach()) == pytest.approx(float(expected.detach()))
    torch.autograd.gradcheck(lambda m: reconstruction(m, y), (made,))


def test_published_sizes_have_no_collision_in_their_hash_table() -> None:
    published = FieldSettings(levels=16, features=8, coarsest=16, finest=1024, steps=1, tokens=1, rate=1)
    assert published.sides[-1] ** 2 <= 2**20
    assert published.sides[1] == round(16 * 1.31951)


def test_the_rate_rises_then_falls_to_a_tenth() -> None:
    rates = [schedule(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == 1
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)
