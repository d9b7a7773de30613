"""The CLIP last-block family against the formulas written out, on ViTs of different kinds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.backbones.by_hand import _layer_norm, _mlp, _rotate, by_hand, images, tiny, view
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.load import load_backbone
from vitbench.errors import NotApplicableError, UsageError
from vitbench.repairs.compose import build_repair
from vitbench.repairs.naclip import neighbourhood
from vitbench.tokens.types import TokenRequest

KINDS = (
    "vit_base_patch16_clip_quickgelu_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "eva02_base_patch16_clip_224",
)
REPAIRS = ("maskclip", "sclip", "clearclip", "naclip", "maskclip[output=reduced]", "naclip[output=full,sigma=2]")
FIELDS = ("patch", "patch_raw", "cls", "block_1", "cls_attention")


def _expected(m: nn.Module, pixels: Tensor, grid: tuple[int, int], repair: str) -> tuple[Tensor, Tensor]:
    """Patches after the last block and after the final norm (b n c), from weights read by name."""
    w, hand, p = {**m.state_dict(), **dict(m.named_buffers())}, by_hand(m, pixels, "norm"), "blocks.2."
    x, block, prefix = hand.blocks[-2], m.blocks[-1], m.num_prefix_tokens
    projections = hand.query[-1], hand.key[-1], hand.value[-1]
    q, k, v = (t.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2) for t in projections)
    if getattr(m, "rope", None) is not None:
        rope = m.rope.get_embed(grid)
        q, k = (_rotate(t, rope, prefix, getattr(block.attn, "rotate_half", False)) for t in (q, k))
    s = 1 / math.sqrt(q.shape[-1])
    name = repair.partition("[")[0]
    if name == "maskclip":
        attention = torch.eye(q.shape[2]).expand(*q.shape[:2], -1, -1)
    elif name == "sclip":
        attention = (q @ q.mT * s).softmax(-1) + (k @ k.mT * s).softmax(-1)
    elif name == "clearclip":
        attention = (q @ q.mT * s).softmax(-1)
    else:
        sigma = 2.0 if "sigma=2" in repair else 5.0
        omega = torch.zeros(q.shape[2], q.shape[2])
        for t in range(grid[0] * grid[1]):
            for u in range(grid[0] * grid[1]):
                distance = (t // grid[1] - u // grid[1]) ** 2 + (t % grid[1] - u % grid[1]) ** 2
                omega[prefix + t, prefix + u] = math.exp(-distance / (2 * sigma**2))
        attention = (k @ k.mT * s + omega).softmax(-1)
    mixed = (attention @ v).transpose(1, 2).flatten(2)
    if f"{p}attn.norm.weight" in w:
        mixed = _layer_norm(mixed, w, f"{p}attn.norm", block.attn.norm.eps)
    gains = [w.get(f"{p}ls{i}.gamma", w.get(f"{p}gamma_{i}", torch.ones(()))) for i in (1, 2)]
    branch = gains[0] * (mixed @ w[f"{p}attn.proj.weight"].T + w[f"{p}attn.proj.bias"])
    full = (name in ("maskclip", "sclip") and "reduced" not in repair) or "output=full" in repair
    if full:
        x = x + branch
        out = x + gains[1] * _mlp(_layer_norm(x, w, f"{p}norm2", block.norm2.eps), block.mlp, w, f"{p}mlp.")
    else:
        out = branch
    norm = "norm" if isinstance(m.norm, nn.LayerNorm) else "fc_norm"
    return out[:, prefix:], _layer_norm(out, w, norm, getattr(m, norm).eps)[:, prefix:]


def _require_formula(module: Any, grid: tuple[int, int], repair: str) -> None:
    plain = view(module)
    patch = plain.card.patch_px
    pictures, request = images(2, (grid[0] * patch, grid[1] * patch)), TokenRequest(FIELDS)
    before = plain.tokens(pictures, request, ["a", "b"])
    after = build_repair(repair).edit(plain, {}).tokens(pictures, request, ["a", "b"])
    pixels = (torch.stack([torch.from_numpy(p) for p in pictures]).permute(0, 3, 1, 2) / 255 - torch.tensor(
        plain.card.mean).view(3, 1, 1)) / torch.tensor(plain.card.std).view(3, 1, 1)  # fmt: skip
    raw, normed = _expected(module, pixels, grid, repair)
    torch.testing.assert_close(after["patch_raw"].flatten(1, 2), raw, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after["patch"].flatten(1, 2), normed, rtol=1e-4, atol=1e-4)
    for name in ("cls", "block_1", "cls_attention"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("repair", REPAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_patches_are_those_of_the_formula_and_nothing_else_changes(kind: str, repair: str) -> None:
    _require_formula(tiny(kind), (3, 5), repair)


@pytest.mark.parametrize("repair", ["maskclip", "sclip", "naclip"])
@pytest.mark.parametrize(("registers", "grid"), [(0, (1, 1)), (1, (1, 7)), (8, (6, 1)), (8, (4, 4))])
def test_they_are_on_any_grid_with_any_number_of_registers(registers: int, grid: tuple[int, int], repair: str) -> None:
    _require_formula(tiny("vit_small_patch14_reg4_dinov2", reg_tokens=registers), grid, repair)


def test_the_neighbourhood_has_peak_one_and_the_published_value_beside_it() -> None:
    omega = neighbourhood((4, 6), 5.0)
    assert omega.shape == (24, 24)
    assert torch.equal(omega.diagonal(), torch.ones(24))
    assert float(omega[0, 1]) == pytest.approx(0.980199, abs=1e-6)
    assert float(omega[0, 6]) == pytest.approx(0.980199, abs=1e-6)
    assert float(omega[0, 7]) == pytest.approx(math.exp(-2 / 50), abs=1e-6)


def test_an_edit_that_adds_tokens_can_come_before() -> None:
    plain = view(tiny(KINDS[2]))
    pictures, request = images(1, (64, 64)), TokenRequest(("patch",))

    class Adds(Edit):
        def before_blocks(self, x: Tensor, context: EditContext) -> Tensor:
            return torch.cat((x, x.new_zeros(len(x), 1, x.shape[-1])), dim=1)

    out = build_repair("naclip").edit(plain.edited(Adds()), {}).tokens(pictures, request, ["a"])
    assert out["patch"].shape == (1, 4, 4, 48)


def test_two_edits_of_one_attention_are_refused() -> None:
    both = build_repair("sclip+naclip").edit(view(tiny(KINDS[0])), {})
    with pytest.raises(NotApplicableError, match="attention of block 2"):
        both.tokens(images(1, (64, 64)), TokenRequest(("patch",)), ["a"])


def test_a_control_and_a_block_of_another_kind_are_refused() -> None:

    with pytest.raises(
        NotApplicableError, match=r"needs the blocks of a ViT of timm.s kind, and .patch_colour. is none"
    ):
        build_repair("maskclip").edit(load_backbone("patch_colour"), {})

    odd = tiny("eva02_small_patch14_224", use_post_norm=True)
    with pytest.raises(NotApplicableError, match="EvaBlockPostNorm"):
        build_repair("clearclip").edit(view(odd), {})


def test_a_width_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="sigma=0"):
        build_repair("naclip[sigma=0]")
