"""Linear maps that move along their own singular values, in every layout of attention and MLP."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.backbones.by_hand import FAMILIES, images, tiny, view
from vitbench.backbones.adapters import attention_parts
from vitbench.backbones.vit import ViT
from vitbench.repairs.compose import build_repair
from vitbench.repairs.singular_values import Tunable, moving_linears, tunable, with_weights
from vitbench.tokens.types import TokenRequest

FIELDS = TokenRequest(("patch", "cls", "value"))


def _tokens(backbone: ViT) -> dict[str, Tensor]:
    patch = backbone.card.patch_px
    return dict(backbone.tokens(images(2, (4 * patch, 5 * patch)), FIELDS, ["a", "b"]).fields)


def _moved(backbone: ViT) -> Tunable:
    tuned = tunable(backbone)
    with torch.no_grad():
        for shift in tuned.shifts[1:]:
            shift += 0.3 * torch.randn(shift.shape, generator=torch.Generator().manual_seed(0))
    return tuned


@pytest.mark.parametrize("timm_id", sorted(FAMILIES))
def test_without_a_shift_the_tokens_are_the_same_bits(timm_id: str) -> None:
    backbone = view(tiny(timm_id))
    tuned = tunable(backbone)
    expected = _tokens(backbone)
    for name, value in _tokens(tuned.view).items():
        assert torch.equal(value, expected[name]), name
    assert tuned.folded() == {}


@pytest.mark.parametrize("timm_id", sorted(FAMILIES))
def test_folded_weights_give_the_trained_tokens_and_leave_queries_and_keys(timm_id: str) -> None:
    backbone = view(tiny(timm_id))
    before, weights = _tokens(backbone), {k: v.clone() for k, v in backbone.module.state_dict().items()}
    tuned = _moved(backbone)
    folded = tuned.folded()
    assert folded
    assert not any(name.startswith("blocks.0.") for name in folded)
    plain, trained = _tokens(with_weights(backbone, folded)), _tokens(tuned.view)
    for name in before:
        assert torch.equal(plain[name], trained[name]), name
        assert not torch.equal(plain[name], before[name]), name
    repaired = with_weights(backbone, folded)
    for old, new in zip(backbone.blocks, repaired.blocks, strict=True):
        for which in ("query", "key"):
            assert torch.equal(attention_parts(old).weight(which)[0], attention_parts(new).weight(which)[0])
    for name, value in backbone.module.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_a_shift_is_added_to_the_singular_values_alone() -> None:
    backbone = view(tiny("vit_giant_patch14_dinov2"))
    tuned = tunable(backbone)
    sizes = [min(len(linear.weight[rows]), linear.in_features) for linear, rows in moving_linears(backbone.blocks[0])]
    assert [len(shift) for shift in tuned.shifts] == [sum(sizes)] * 3
    assert len(sizes) == 4  # values, attention output, gate and value in one, MLP output
    with torch.no_grad():
        tuned.shifts[1].copy_(torch.cat([torch.linspace(0.2, 0.1, size) for size in sizes]))
    pairs = zip(moving_linears(backbone.blocks[1]), moving_linears(tuned.view.blocks[1]), sizes, strict=True)
    for (old, rows), (new, _), size in pairs:
        expected = torch.linalg.svdvals(old.weight[rows]) + torch.linspace(0.2, 0.1, size)
        torch.testing.assert_close(torch.linalg.svdvals(new.weight[rows]), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("timm_id", ["vit_small_patch16_224", "eva02_base_patch14_224", "vit_small_patch16_dinov3"])
def test_every_path_of_the_forward_reads_what_is_trained(timm_id: str) -> None:
    """Replaced attention reads the projections' weights without calling their modules."""
    tuned = tunable(build_repair("naclip").edit(view(tiny(timm_id)), {}))  # type: ignore[arg-type]
    patch = tuned.view.card.patch_px
    pixels = torch.randint(0, 256, (1, 3, 4 * patch, 4 * patch), dtype=torch.uint8)
    geometry = tuned.view.tokens(images(1, (4 * patch, 4 * patch)), FIELDS, ["a"]).geometry
    tokens = tuned.view.differentiable(pixels, geometry, FIELDS, ["a"])
    for shift, gradient in zip(
        tuned.shifts, torch.autograd.grad(tokens["patch"].square().sum(), tuned.shifts), strict=True
    ):
        assert gradient.shape == shift.shape
        assert bool(gradient.isfinite().all())
    last = next(rows for _, rows in moving_linears(tuned.view.blocks[-1]))
    assert bool((gradient[: last.stop - last.start] != 0).any())
