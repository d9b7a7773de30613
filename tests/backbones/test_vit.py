"""The view: every field of every family against a forward by hand, and what edits may and may not do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vitbench.backbones.adapters import attention_parts, layer_scales, mlp_parts
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT
from vitbench.catalogue.views import View
from vitbench.errors import NotApplicableError, RepairError, UsageError
from vitbench.tokens.types import TokenRequest
from vitbench.tokens.views import batch, normalise, place

from .by_hand import FAMILIES, by_hand, images, tiny, view

GRID = (
    "patch", "patch_raw", "block_0", "block_-2", "query", "key", "value", "query_0", "key_1", "value_1", "patch_embed",
)  # fmt: skip


def everything(v: ViT) -> tuple[str, ...]:
    attention = ("cls_attention",) * v.has_cls + ("register_attention",) * (v.card.registers > 0)
    return (*GRID, "norms", "cls", "registers", *attention)


def normalised(v: ViT, pictures: list) -> Tensor:
    pixels, geometry = batch([p for i in pictures for p in place(i, View("whole"), v.card.patch_px)], v.card.patch_px)
    return normalise(pixels, geometry, v.card.mean, v.card.std, torch.float32)


@pytest.mark.parametrize("cells", [(4, 4), (3, 6)], ids=["pretraining grid", "other grid, not square"])
@pytest.mark.parametrize("timm_id", FAMILIES)
def test_every_field_equals_the_forward_by_hand(timm_id: str, cells: tuple[int, int]) -> None:
    module = tiny(timm_id)
    v = view(module)
    pictures = images(2, (cells[0] * v.card.patch_px, cells[1] * v.card.patch_px))
    tokens = v.tokens(pictures, TokenRequest(everything(v)), ["a", "b"])
    hand = by_hand(module, normalised(v, pictures), v.card.final_norm)
    n = v.prefix

    def grid(x: Tensor) -> Tensor:
        return x[:, n:].reshape(2, *cells, -1)

    expected = {
        "patch": grid(hand.final),
        "patch_raw": grid(hand.blocks[2]),
        "block_0": grid(hand.blocks[0]),
        "block_-2": grid(hand.blocks[1]),
        "query": grid(hand.query[2]),
        "key": grid(hand.key[2]),
        "value": grid(hand.value[2]),
        "query_0": grid(hand.query[0]),
        "key_1": grid(hand.key[1]),
        "value_1": grid(hand.value[1]),
        "patch_embed": hand.patch_embed,
        "norms": torch.stack([grid(b).square().sum(-1).sqrt() for b in hand.blocks], dim=1),
        "cls": hand.final[:, 0] if v.has_cls else hand.final.mean(1),
        "registers": hand.final[:, int(v.has_cls) : n],
        "cls_attention": hand.attention[2][:, :, 0, n:].reshape(2, -1, *cells),
        "register_attention": hand.attention[2][:, :, 1:n, n:].mean(1).reshape(2, -1, *cells),
    }
    for name, value in tokens.fields.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=2e-4, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("timm_id", FAMILIES)
def test_patch_is_bit_for_bit_what_forward_features_gives(timm_id: str) -> None:
    module = tiny(timm_id)
    v = view(module)
    pictures = images(1, (2 * v.card.patch_px, 5 * v.card.patch_px))
    final = module.forward_features(normalised(v, pictures))
    final = module.fc_norm(final) if v.card.final_norm == "fc_norm" else final
    got = v.tokens(pictures, TokenRequest(everything(v)), ["a"])["patch"]
    assert torch.equal(got.flatten(1, 2), final[:, v.prefix :])


@pytest.mark.parametrize(
    "timm_id, prefix, registers, final_norm",
    [
        ("vit_small_patch16_224", 1, 0, "norm"),
        ("vit_small_patch14_reg4_dinov2", 5, 4, "norm"),
        ("vit_base_patch16_siglip_224", 0, 0, "norm"),
        ("vit_base_patch16_radio_v3", 8, 7, "none"),
        ("vit_small_patch16_dinov3", 5, 4, "norm"),
        ("eva02_base_patch14_224", 1, 0, "fc_norm"),
        ("vit_pe_spatial_small_patch16_512", 1, 0, "none"),
    ],
)
def test_prefix_tokens_and_final_norm_are_read_off_the_model(
    timm_id: str, prefix: int, registers: int, final_norm: str
) -> None:
    card = view(tiny(timm_id)).card
    assert (card.prefix_tokens, card.registers, card.final_norm) == (prefix, registers, final_norm)


def test_the_grid_follows_the_picture_and_its_padding() -> None:
    v = view(tiny("vit_small_patch14_dinov2"))
    tokens = v.tokens(images(1, (30, 47)), TokenRequest(("patch",)), ["a"])
    assert tokens["patch"].shape[1:3] == tokens.geometry.grid_hw == (3, 4)
    assert tokens.geometry.valid().all()


def test_no_hook_and_no_mode_is_left_behind_even_after_an_error() -> None:
    module = tiny("vit_small_patch16_dinov3").train()
    v = view(module).edited(Appending(), Uniform())

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + ("forward" in vars(m)) for m in module.modules())

    v.tokens(images(1, (64, 64)), TokenRequest(everything(v)), ["a"])
    with pytest.raises(ZeroDivisionError):
        v.edited(Failing()).tokens(images(1, (64, 64)), TokenRequest(everything(v)), ["a"])
    assert hooks() == 0
    assert all(m.training for m in module.modules())


def test_a_model_that_is_training_is_measured_without_dropout() -> None:
    module = tiny("vit_small_patch16_224", proj_drop_rate=0.5, attn_drop_rate=0.5)
    request, pictures = TokenRequest(("patch",)), images(1, (64, 64))
    calm = view(module).tokens(pictures, request, ["a"])["patch"]
    assert torch.equal(view(module.train()).tokens(pictures, request, ["a"])["patch"], calm)


def test_fields_that_a_model_does_not_have_are_not_applicable() -> None:
    v = view(tiny("vit_base_patch16_siglip_224"))
    with pytest.raises(NotApplicableError, match="has no CLS"):
        v.tokens(images(1, (64, 64)), TokenRequest(("cls_attention",)), ["a"])
    with pytest.raises(UsageError, match="has 3 blocks"):
        v.tokens(images(1, (64, 64)), TokenRequest(("block_3",)), ["a"])


class Appending(Edit):
    """A token appended after the patches, as test-time registers need."""

    def before_blocks(self, x: Tensor, context: EditContext) -> Tensor:
        return torch.cat((x, torch.full_like(x[:, :1], 0.5)), dim=1)


class Uniform(Edit):
    def attention_blocks(self, depth: int) -> tuple[int, ...]:
        return (depth - 1,)

    def attention(self, i: int, logits: Tensor, context: EditContext) -> Tensor:
        return torch.full_like(logits, 1 / logits.shape[-1])


class Failing(Edit):
    def after_block(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        raise ZeroDivisionError


class Softmax(Edit):
    """Every block through the unfused path, with the usual weights."""

    def attention_blocks(self, depth: int) -> tuple[int, ...]:
        return tuple(range(depth))


class Shift(Edit):
    """Marks the first cell, in the stream after a block and at the output."""

    def __init__(self, block: int) -> None:
        self.block = block

    def after_block(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        if i != self.block:
            return x
        grid = context.grid(x).clone()
        grid[:, 0, 0, 0] += 100
        context.fields["flags"] = (grid[..., 0] - context.grid(x)[..., 0]) > 50
        return context.with_grid(x, grid)

    def output(self, x: Tensor, context: EditContext) -> Tensor:
        return x + 1


class Silent(Edit):
    """All neurons of block 1 off."""

    def hidden(self, i: int, h: Tensor, context: EditContext) -> Tensor:
        return torch.zeros_like(h) if i == 1 else h


@pytest.mark.parametrize(
    "timm_id", ["vit_small_patch14_reg4_dinov2", "eva02_base_patch14_224", "vit_small_patch16_dinov3"]
)
def test_an_appended_token_is_attended_to_and_left_out_of_all_fields(timm_id: str) -> None:
    v = view(tiny(timm_id))
    pictures, request = images(2, (3 * v.card.patch_px, 4 * v.card.patch_px)), TokenRequest(everything(v))
    plain, edited = v.tokens(pictures, request, ["a", "b"]), v.edited(Appending()).tokens(pictures, request, ["a", "b"])
    for name in request.fields:
        assert edited[name].shape == plain[name].shape
    assert torch.equal(edited["patch_embed"], plain["patch_embed"])
    torch.testing.assert_close(edited["query_0"], plain["query_0"])  # nothing was mixed yet
    assert not torch.allclose(edited["block_0"], plain["block_0"], atol=1e-3)
    weights = plain["cls_attention"].sum((2, 3)), edited["cls_attention"].sum((2, 3))
    assert (weights[1] < 1).all()


def test_fields_show_what_edits_do_and_the_first_view_stays_as_it_was() -> None:
    v = view(tiny("vit_small_patch14_dinov2"))
    pictures, request = images(1, (42, 56)), TokenRequest((*everything(v), "flags"))
    before = v.tokens(pictures, request, ["a"])
    edited = v.edited(Shift(1)).tokens(pictures, request, ["a"])
    assert torch.equal(edited["block_0"], before["block_0"])
    assert edited["flags"].sum() == 1
    assert bool(edited["flags"][0, 0, 0])
    assert (edited["norms"][0, 1] > before["norms"][0, 1] + 50).nonzero().tolist() == [[0, 0]]
    assert not torch.allclose(edited["key"], before["key"], atol=1e-2)
    after = v.tokens(pictures, request, ["a"])
    for name in request.fields:
        assert torch.equal(after[name], before[name])


def test_edits_apply_in_order_and_at_the_output() -> None:
    v = view(tiny("vit_small_patch14_dinov2"))
    pictures, request = images(1, (42, 56)), TokenRequest(("patch", "cls", "patch_raw"))
    once = v.edited(Shift(9))
    plain, edited = v.tokens(pictures, request, ["a"]), once.edited(Shift(9)).tokens(pictures, request, ["a"])
    torch.testing.assert_close(edited["patch"], plain["patch"] + 2)
    torch.testing.assert_close(edited["cls"], plain["cls"] + 2)
    assert torch.equal(edited["patch_raw"], plain["patch_raw"])


def test_an_edit_of_the_softmax_shows_in_the_attention_maps() -> None:
    v = view(tiny("vit_small_patch14_reg4_dinov2")).edited(Uniform())
    tokens = v.tokens(images(1, (42, 56)), TokenRequest(("cls_attention", "register_attention")), ["a"])
    torch.testing.assert_close(tokens["cls_attention"], torch.full((1, 3, 3, 4), 1 / 17))
    with pytest.raises(NotApplicableError, match="two edits"):
        v.edited(Softmax()).tokens(images(1, (42, 56)), TokenRequest(("patch",)), ["a"])


@pytest.mark.parametrize("timm_id", ["vit_small_patch14_dinov2", "vit_giant_patch14_dinov2", "eva02_base_patch14_224"])
def test_neurons_are_the_input_of_the_last_linear_map(timm_id: str) -> None:
    module = tiny(timm_id)
    v = view(module)
    pictures, request = images(1, (42, 56)), TokenRequest(("block_0", "block_1"))
    tokens = v.edited(Silent()).tokens(pictures, request, ["a"])
    x = torch.randn(1, 5, 48)
    parts = mlp_parts(module.blocks[1])
    torch.testing.assert_close(parts.out(parts.hidden(x)), module.blocks[1].mlp(x))
    # With its neurons off, an MLP adds its last bias only.
    hand = by_hand(module, normalised(v, pictures), v.card.final_norm)
    block, gamma = module.blocks[1], layer_scales(module.blocks[1])[1]
    bias = block.mlp.fc2.bias * (1 if gamma is None else gamma)
    attended = block.attn(block.norm1(hand.blocks[0]), **_rope(module, (3, 4)))
    scale = layer_scales(block)[0]
    expected = hand.blocks[0] + attended * (1 if scale is None else scale) + bias
    torch.testing.assert_close(tokens["block_1"].flatten(1, 2), expected[:, v.prefix :], rtol=1e-3, atol=1e-4)


def _rope(module: torch.nn.Module, grid: tuple[int, int]) -> dict[str, Tensor]:
    return {"rope": module.rope.get_embed(grid)} if getattr(module, "rope", None) is not None else {}


@pytest.mark.parametrize("timm_id", FAMILIES)
def test_projections_by_weight_equal_the_blocks_own(timm_id: str) -> None:
    module = tiny(timm_id)
    parts = attention_parts(module.blocks[0])
    x = torch.randn(2, 7, 48)
    for which in ("query", "key", "value"):
        if (source := parts.source(which)) is not None:
            torch.testing.assert_close(parts.project(x, which), source[0](x)[..., source[1]])


@pytest.mark.parametrize("timm_id", FAMILIES)
def test_half_precision_gives_nearly_the_same_fields(timm_id: str) -> None:
    v = view(tiny(timm_id))
    pictures, request = images(1, (3 * v.card.patch_px, 4 * v.card.patch_px)), TokenRequest(everything(v))
    exact = v.tokens(pictures, request, ["a"])
    v.to("cpu", torch.bfloat16)
    for name, value in v.tokens(pictures, request, ["a"]).fields.items():
        assert value.dtype == (torch.float32 if name in ("norms", *everything(v)[14:]) else torch.bfloat16), name
        error = (value.float() - exact[name]).norm() / exact[name].norm().clamp(min=1e-6)
        assert error < 0.05, name


@pytest.mark.parametrize("method", ["after_block", "output"])
def test_an_edit_that_loses_tokens_is_named(method: str) -> None:
    def fewer(self: Edit, *args: Any) -> torch.Tensor:
        return next(a for a in args if isinstance(a, torch.Tensor))[:, 1:]

    lossy = type("Lossy", (Edit,), {method: fewer})()
    edited = view(tiny("vit_small_patch16_224")).edited(lossy)
    with pytest.raises(RepairError, match=rf"{method} of Lossy made \(1, 9, .*return as many tokens"):
        edited.tokens(images(1, (48, 48)), TokenRequest(("patch",)), ["a"])
