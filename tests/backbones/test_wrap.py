"""Somebody's own module in one line: timm, Hugging Face and hub kinds give the same tokens for the same weights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from vitbench.backbones.vit import ViT
from vitbench.backbones.wrap import wrap
from vitbench.errors import NotApplicableError, TokensError, UsageError
from vitbench.tokens.types import TokenRequest

from .by_hand import images, tiny

FIELDS = (
    "patch", "patch_raw", "block_0", "query", "key", "value", "key_1", "patch_embed", "norms", "cls", "registers",
)  # fmt: skip
REQUEST = TokenRequest(FIELDS)


class Linears(nn.Module):
    """q, k and v as Hugging Face names them, from a packed map."""

    def __init__(self, qkv: nn.Linear) -> None:
        super().__init__()
        for i, name in enumerate(("query", "key", "value")):
            linear = nn.Linear(48, 48)
            linear.weight.data, linear.bias.data = qkv.weight.chunk(3)[i], qkv.bias.chunk(3)[i]
            setattr(self, name, linear)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.query(x), self.key(x), self.value(x)), dim=-1)


class Layer(nn.Module):
    """A block that returns a tuple."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        block.attn.qkv = Linears(block.attn.qkv)
        self.inner = block

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.inner(x), None


class HuggingFaceLike(nn.Module):
    """A timm ViT behind the interface of a transformers model, with its own names."""

    def __init__(self, vit: nn.Module, registers: int) -> None:
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.cls_token, self.embeddings.vit = vit.cls_token, [vit]
        self.embeddings.projection = vit.patch_embed.proj
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(Layer(b) for b in vit.blocks)
        self.layernorm = vit.norm
        self.config = SimpleNamespace(num_hidden_layers=3, num_register_tokens=registers)

    def forward(self, pixels: Tensor, interpolate_pos_encoding: bool = False) -> SimpleNamespace:
        assert interpolate_pos_encoding
        (vit,) = self.embeddings.vit
        x = vit._pos_embed(self.embeddings.projection(pixels).permute(0, 2, 3, 1))
        for layer in self.encoder.layer:
            x = layer(x)[0]
        return SimpleNamespace(last_hidden_state=self.layernorm(x))


class HubLike(nn.Module):
    """A timm ViT behind the interface of the released DINOv2 modules."""

    def __init__(self, vit: nn.Module, registers: int) -> None:
        super().__init__()
        self.patch_embed, self.blocks, self.norm, self.cls_token = vit.patch_embed, vit.blocks, vit.norm, vit.cls_token
        self.vit, self.num_register_tokens = [vit], registers

    def forward_features(self, pixels: Tensor) -> dict[str, Tensor]:
        x = self.vit[0].forward_features(pixels)
        r = 1 + self.num_register_tokens
        return {"x_norm_clstoken": x[:, 0], "x_norm_regtokens": x[:, 1:r], "x_norm_patchtokens": x[:, r:]}


class DinoLike(nn.Module):
    """The interface of DINO's hub modules."""

    def __init__(self, vit: nn.Module, registers: int) -> None:
        super().__init__()
        self.patch_embed, self.blocks, self.norm, self.cls_token = vit.patch_embed, vit.blocks, vit.norm, vit.cls_token
        self.vit = [vit]

    def get_intermediate_layers(self, pixels: Tensor, n: int) -> list[Tensor]:
        return [self.vit[0].forward_features(pixels)]


@pytest.mark.parametrize("kind", [HuggingFaceLike, HubLike, DinoLike])
@pytest.mark.parametrize("timm_id, registers", [("vit_small_patch14_dinov2", 0), ("vit_small_patch14_reg4_dinov2", 4)])
def test_every_kind_of_module_gives_the_tokens_of_the_timm_model(
    kind: type[nn.Module], timm_id: str, registers: int
) -> None:
    pictures = images(2, (42, 56))
    expected = wrap(tiny(timm_id)).tokens(pictures, REQUEST, ["a", "b"])
    told = {"prefix_tokens": 1 + registers} if kind is DinoLike else {}
    module = kind(tiny(timm_id), registers)
    wrapped = wrap(module, name="mine", **told)
    got = wrapped.tokens(pictures, REQUEST, ["a", "b"])
    for name in FIELDS:
        torch.testing.assert_close(got[name], expected[name], rtol=1e-4, atol=1e-5)
    card = wrapped.card
    assert (card.name, card.patch_px, card.prefix_tokens, card.registers) == ("mine", 14, 1 + registers, registers)
    assert (card.depth, card.embed_dim, card.kind) == (3, 48, "module")
    assert not any(m._forward_hooks for m in module.modules())


def test_a_timm_model_gets_the_full_view_and_its_own_mean_and_std() -> None:
    wrapped = wrap(tiny("vit_base_patch16_clip_224"))
    assert isinstance(wrapped, ViT)
    assert wrapped.card.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-3)
    assert wrap(tiny("vit_base_patch16_clip_224"), mean=(0.5, 0.5, 0.5)).card.mean == (0.5, 0.5, 0.5)
    tokens = wrapped.tokens(images(1, (32, 48)), TokenRequest(("cls_attention",)), ["a"])
    assert tokens["cls_attention"].shape == (1, 3, 2, 3)


def test_a_model_built_for_one_size_works_at_that_size() -> None:
    fixed = wrap(tiny("vit_small_patch16_224", dynamic_img_size=False))
    free = wrap(tiny("vit_small_patch16_224"))
    request = TokenRequest(("patch", "patch_embed"))
    a, b = (w.tokens(images(1, (64, 64)), request, ["a"]) for w in (fixed, free))
    assert torch.equal(a["patch"], b["patch"])
    assert torch.equal(a["patch_embed"], b["patch_embed"])
    with pytest.raises(TokensError, match="dynamic_img_size"):
        fixed.tokens(images(1, (32, 48)), request, ["a"])


def test_the_digest_is_of_the_weights() -> None:
    assert wrap(tiny("vit_small_patch16_224")).digest == wrap(tiny("vit_small_patch16_224"), name="other").digest
    assert wrap(tiny("vit_small_patch16_224")).digest != wrap(tiny("vit_small_patch16_224", seed=1)).digest


def test_what_is_not_a_vit_or_does_not_add_up_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="not a ViT"):
        wrap(nn.Linear(3, 3))
    with pytest.raises(UsageError, match="no list of blocks"):
        wrap(nn.Sequential(nn.Conv2d(3, 8, 4, 4)))
    wrapped = wrap(HubLike(tiny("vit_small_patch14_reg4_dinov2"), 4), prefix_tokens=1)
    with pytest.raises(UsageError, match="gave 17 tokens for a 3x4 grid and 1 prefix tokens"):
        wrapped.tokens(images(1, (42, 56)), TokenRequest(("patch",)), ["a"])
    with pytest.raises(NotApplicableError, match="no attention that can be read"):
        wrapped.tokens(images(1, (42, 56)), TokenRequest(("cls_attention",)), ["a"])


def test_a_module_inside_its_training_loop_goes_on_training() -> None:
    module = HubLike(tiny("vit_small_patch14_dinov2", proj_drop_rate=0.5), 0).train()
    wrapped = wrap(module)
    a, b = (wrapped.tokens(images(1, (42, 56)), REQUEST, ["a"])["patch"] for _ in range(2))
    assert torch.equal(a, b)
    assert module.training
    assert module.blocks[0].mlp.drop1.training
