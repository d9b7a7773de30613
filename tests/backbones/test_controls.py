"""Controls: deterministic, on any grid, and knowing only what they may know."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitbench.backbones.load import load_backbone
from vitbench.tokens.types import TokenRequest

from .by_hand import images

GRID = ("patch", "patch_raw", "block_0", "block_-1", "query", "key", "value", "patch_embed")
REQUEST = TokenRequest((*GRID, "cls", "norms", "pixels", "flags", "registers"))


@pytest.mark.parametrize("patch_px", [8, 14, 16])
@pytest.mark.parametrize("name", ["random_vit", "patch_colour", "position_only"])
def test_controls_give_what_tasks_read_on_any_grid(name: str, patch_px: int) -> None:
    control = load_backbone(f"{name}[patch_px={patch_px}]")
    assert control.card.name == (name if patch_px == 8 else f"{name}[patch_px={patch_px}]")
    assert control.card.kind == "control"
    tokens = control.tokens(images(2, (3 * patch_px, 5 * patch_px)), REQUEST, ["a", "b"])
    for field in GRID:
        assert tokens[field].shape == (2, 3, 5, control.card.embed_dim)
    assert tokens["cls"].shape == (2, control.card.embed_dim)
    assert tokens["norms"].shape == (2, control.card.depth, 3, 5)


@pytest.mark.parametrize("name", ["random_vit", "patch_colour", "position_only"])
def test_controls_are_the_same_every_time_and_do_not_touch_the_global_seed(name: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = load_backbone(name), load_backbone(name)
    assert torch.equal(torch.rand(1), expected)
    assert first.digest == second.digest
    a, b = (c.tokens(images(1, (24, 32)), REQUEST, ["a"]) for c in (first, second))
    assert all(torch.equal(a[field], b[field]) for field in REQUEST.fields)


def test_another_seed_is_another_random_vit() -> None:
    first, second = load_backbone("random_vit"), load_backbone("random_vit[seed=1]")
    assert first.digest != second.digest
    a, b = (c.tokens(images(1, (24, 32)), REQUEST, ["a"])["patch"] for c in (first, second))
    assert not torch.allclose(a, b)


def test_patch_colour_is_the_patchs_own_pixels() -> None:
    control = load_backbone("patch_colour")
    tokens = control.tokens(images(2, (24, 40)), REQUEST, ["a", "b"])
    torch.testing.assert_close(tokens["patch"], tokens["pixels"].float() / 127.5 - 1)
    flat = np.full((28, 28, 3), (255, 0, 51), np.uint8)
    patch = load_backbone("patch_colour[patch_px=14]").tokens([flat], REQUEST, ["a"])["patch"]
    torch.testing.assert_close(patch.reshape(-1, 3), torch.tensor([1.0, -1.0, -0.6]).expand(256, 3))


def test_position_only_sees_no_picture_and_is_smooth() -> None:
    control = load_backbone("position_only")
    patch = control.tokens(images(2, (64, 96)), REQUEST, ["a", "b"])["patch"]
    assert torch.equal(patch[0], patch[1])
    distances = torch.cdist(patch[0].flatten(0, 1), patch[0].flatten(0, 1))
    assert (distances + torch.eye(96) * 9).min() > 1e-3  # every position is told apart
    cell = 3 * 12 + 5
    nearest = (distances[cell] + torch.eye(96)[cell] * 9).topk(4, largest=False).indices
    for n in nearest.tolist():
        assert abs(n // 12 - 3) + abs(n % 12 - 5) <= 2


def test_position_only_means_the_same_place_at_every_grid_size() -> None:
    control = load_backbone("position_only")
    small = control.tokens(images(1, (24, 24)), REQUEST, ["a"])["patch"]
    large = control.tokens(images(1, (72, 72)), REQUEST, ["a"])["patch"]
    torch.testing.assert_close(small, large[:, 1::3, 1::3])


def test_the_random_vit_is_what_the_trainings_of_the_lab_start_from() -> None:
    from vitbench.lab.train import start

    control, student = load_backbone("random_vit").module, start("lab_ssl", seed=0).student
    assert control is not None
    ours = control.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in student.state_dict().items())
