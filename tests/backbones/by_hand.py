"""A ViT's forward written out with plain tensor arithmetic, and tiny random instances of every family.

Independent of the view: weights are read off the module by name, attention is the textbook softmax.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitbench.backbones.vit import ViT, card_of
from vitbench.catalogue.cards import BackboneCard

TINY = {"embed_dim": 48, "depth": 3, "num_heads": 3}
# timm id -> pretraining grid of the tiny instance is 4x4; what it stands for
FAMILIES = {
    "vit_small_patch16_224": "DINO, MAE, AugReg, DeiT",
    "deit3_small_patch16_224": "DeiT-III",
    "vit_base_patch16_clip_quickgelu_224": "CLIP",
    "vit_base_patch16_clip_224": "OpenCLIP",
    "vit_small_patch14_dinov2": "DINOv2",
    "vit_giant_patch14_dinov2": "DINOv2-g, packed SwiGLU",
    "vit_small_patch14_reg4_dinov2": "DINOv2 with registers",
    "vit_base_patch16_siglip_224": "SigLIP2",
    "eva02_small_patch14_224": "EVA02, packed q/k/v, norm after pooling",
    "eva02_base_patch14_224": "EVA02, separate q/k/v",
    "eva02_base_patch16_clip_224": "EVA02-CLIP",
    "vit_small_patch16_dinov3": "DINOv3",
    "vit_small_patch16_dinov3_qkvb": "DINOv3 with biases",
    "vit_pe_spatial_small_patch16_512": "PE-spatial",
    "vit_base_patch16_radio_v3": "RADIO",
}


def tiny(timm_id: str, seed: int = 0, **options: object) -> nn.Module:
    """A small instance whose every parameter matters: layer scales near one, norms and biases not trivial."""
    patch = 14 if "patch14" in timm_id else 16
    settings = {**TINY, "img_size": 4 * patch, "num_classes": 0, "dynamic_img_size": True, **options}
    module = timm.create_model(timm_id, **settings).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        one = ("norm" in name and name.endswith("weight")) or "gamma" in name
        value.copy_(1 + 0.2 * noise if one else noise * (0.5 if value.ndim < 2 else 1 / math.sqrt(value[0].numel())))
    return module


def view(module: nn.Module, name: str = "tiny") -> ViT:
    return ViT(module, card_of(module, BackboneCard(name, None, "test", "model", 0, 0, 0, 0, 0)), "0" * 16)


def images(n: int, hw: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (n, *hw, 3), dtype=np.uint8))


@dataclass
class ByHand:
    """All fields of one forward."""

    patch_embed: Tensor
    blocks: list[Tensor] = field(default_factory=list)  # all tokens, after each block
    query: list[Tensor] = field(default_factory=list)
    key: list[Tensor] = field(default_factory=list)
    value: list[Tensor] = field(default_factory=list)
    attention: list[Tensor] = field(default_factory=list)  # b a T T
    final: Tensor | None = None


def by_hand(m: nn.Module, pixels: Tensor, final_norm: str) -> ByHand:
    """Normalised pixels b 3 H W -> all fields."""
    w = {**m.state_dict(), **dict(m.named_buffers())}
    patch = m.patch_embed.patch_size[0]
    h, wd = pixels.shape[2] // patch, pixels.shape[3] // patch
    unfolded = F.unfold(pixels, patch, stride=patch).transpose(1, 2)
    x = unfolded @ w["patch_embed.proj.weight"].flatten(1).T + w.get("patch_embed.proj.bias", torch.zeros(()))
    out = ByHand(x.reshape(len(x), h, wd, -1))
    x = _with_prefix_and_positions(m, w, x, (h, wd))
    if isinstance(m.norm_pre, nn.LayerNorm):
        x = _layer_norm(x, w, "norm_pre", m.norm_pre.eps)
    rope = m.rope.get_embed((h, wd)) if getattr(m, "rope", None) is not None else None
    for i, block in enumerate(m.blocks):
        x = _block(x, block, w, f"blocks.{i}.", rope, m.num_prefix_tokens, out)
        out.blocks.append(x)
    out.final = x if final_norm == "none" else _layer_norm(x, w, final_norm, getattr(m, final_norm).eps)
    return out


def _layer_norm(x: Tensor, w: dict[str, Tensor], name: str, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def _with_prefix_and_positions(m: nn.Module, w: dict[str, Tensor], x: Tensor, grid: tuple[int, int]) -> Tensor:
    prefix = [w[k].expand(len(x), -1, -1) for k in ("cls_token", "reg_token") if k in w]
    if "pos_embed" not in w:
        return torch.cat([*prefix, x], dim=1)
    n = 0 if m.no_embed_class else m.num_prefix_tokens
    old, positions = math.isqrt(w["pos_embed"].shape[1] - n), w["pos_embed"]
    square = positions[:, n:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    if (old, old) != grid:
        square = F.interpolate(square, grid, mode="bicubic", antialias=True)
    positions = torch.cat((positions[:, :n], square.flatten(2).transpose(1, 2)), dim=1)
    if m.no_embed_class:
        return torch.cat([*prefix, x + positions], dim=1)
    return torch.cat([*prefix, x], dim=1) + positions


def _block(
    x: Tensor, block: nn.Module, w: dict[str, Tensor], p: str, rope: Tensor | None, prefix: int, out: ByHand
) -> Tensor:
    def scale(i: int) -> Tensor:
        return w.get(f"{p}ls{i}.gamma", w.get(f"{p}gamma_{i}", torch.ones(())))

    y = _layer_norm(x, w, f"{p}norm1", block.norm1.eps)
    q, k, v = (_projection(y, w, f"{p}attn.", i) for i in range(3))
    for kept, projected in ((out.query, q), (out.key, k), (out.value, v)):
        kept.append(projected)
    heads = block.attn.num_heads
    q, k, v = (t.reshape(*t.shape[:2], heads, -1).transpose(1, 2) for t in (q, k, v))
    if rope is not None:
        q, k = (_rotate(t, rope, prefix, getattr(block.attn, "rotate_half", False)) for t in (q, k))
    attention = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1)
    out.attention.append(attention)
    y = (attention @ v).transpose(1, 2).flatten(2)
    if f"{p}attn.norm.weight" in w:
        y = _layer_norm(y, w, f"{p}attn.norm", block.attn.norm.eps)
    x = x + scale(1) * (y @ w[f"{p}attn.proj.weight"].T + w[f"{p}attn.proj.bias"])
    return x + scale(2) * _mlp(_layer_norm(x, w, f"{p}norm2", block.norm2.eps), block.mlp, w, f"{p}mlp.")


def _projection(y: Tensor, w: dict[str, Tensor], p: str, i: int) -> Tensor:
    letter = "qkv"[i]
    if f"{p}qkv.weight" in w:
        out = y @ w[f"{p}qkv.weight"].chunk(3)[i].T
        if f"{p}qkv.bias" in w:
            return out + w[f"{p}qkv.bias"].chunk(3)[i]
        return out + w[f"{p}{letter}_bias"] if f"{p}{letter}_bias" in w else out
    return y @ w[f"{p}{letter}_proj.weight"].T + w.get(f"{p}{letter}_proj.bias", torch.zeros(()))


def _rotate(x: Tensor, rope: Tensor, prefix: int, half: bool) -> Tensor:
    """Each pair of channels is a complex number, turned by the position's angle."""
    d = x.shape[-1]
    first, second = (slice(0, d // 2), slice(d // 2, d)) if half else (slice(0, d, 2), slice(1, d, 2))
    sin, cos = rope[..., :d][..., first], rope[..., d:][..., first]
    turned = torch.complex(x[:, :, prefix:, first], x[:, :, prefix:, second]) * torch.complex(cos, sin)
    out = x.clone()
    out[:, :, prefix:, first], out[:, :, prefix:, second] = turned.real, turned.imag
    return out


def _mlp(y: Tensor, mlp: nn.Module, w: dict[str, Tensor], p: str) -> Tensor:
    if f"{p}fc1_g.weight" in w:
        hidden = F.silu(y @ w[f"{p}fc1_g.weight"].T + w[f"{p}fc1_g.bias"]) * (
            y @ w[f"{p}fc1_x.weight"].T + w[f"{p}fc1_x.bias"]
        )
    else:
        hidden = y @ w[f"{p}fc1.weight"].T + w[f"{p}fc1.bias"]
        if w[f"{p}fc2.weight"].shape[1] * 2 == hidden.shape[-1]:
            gate, value = hidden.chunk(2, dim=-1)
            hidden = F.silu(gate) * value
        else:
            quick = type(mlp.act).__name__ == "QuickGELU"
            hidden = hidden * torch.sigmoid(1.702 * hidden) if quick else F.gelu(hidden)
    if f"{p}norm.weight" in w:
        hidden = _layer_norm(hidden, w, f"{p}norm", mlp.norm.eps)
    return hidden @ w[f"{p}fc2.weight"].T + w[f"{p}fc2.bias"]
