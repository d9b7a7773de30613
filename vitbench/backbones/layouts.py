"""Checkpoint layouts: the keys of timm, DINO, DINOv2, DINOv3, MAE, Hugging Face and CLIP, told apart by the keys themselves.

Everything becomes timm's layout, shaped for the module that will take it: packed or separate q/k/v, either name of
layer scale, positions with or without CLS, any pretraining grid. The arithmetic is exact except for resampled positions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

# Where a ViT begins in a checkpoint: what stands before its patch projection is a wrapper's prefix.
_ANCHORS = (
    "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.weight",
    "embeddings.patch_embeddings.weight",
)
_RENAMES = (
    # CLIP as released by OpenAI and open_clip (the image tower, below `visual.`)
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^transformer\.resblocks\.(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    # Hugging Face (ViT, ViTMAE, Dinov2, Dinov2WithRegisters, DINOv3ViT)
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.", ""),
    (r"^(?:encoder\.|model\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.attention\.(q|k|v)[a-z]+\.", r".attn.\1_proj."),
    (r"\.attention\.(q|k|v)_proj\.", r".attn.\1_proj."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    # DINOv2 and DINOv3 as released: blocks in chunks, packed SwiGLU, registers under two names
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"^(?:register_tokens|storage_tokens)$", "reg_token"),
)
# Parts of training that a frozen encoder does not have; dropped where the module has no such key.
_DROPPED = re.compile(
    r"^(head|heads|head_dist|fc|classifier|pooler|decoder|mask_token|dino_head|ibot_head|attn_pool|local_cls_norm)\b"
    r"|^(decoder_\w+|pre_logits)\b|^proj$|\brope(_embed\w*)?\b|\.bias_mask$"
)


def at_root(state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The ViT's own tensors without a wrapper's prefix (`module.`, `backbone.`, `vit.` ...); None where there is no ViT.

    Where a file holds several (teacher and student), the teacher's or averaged one is taken, else the shortest prefix.
    """
    prefixes = {key[: -len(a)] for key in state for a in _ANCHORS if key == a or key.endswith(f".{a}")}
    # CLIP's image tower: a class embedding beside the first convolution tells it from a ResNet.
    clip = {key.removesuffix("class_embedding") for key in state if key.endswith("class_embedding")}
    prefixes |= {prefix for prefix in clip if f"{prefix}conv1.weight" in state}
    if not prefixes:
        return None
    prefix = min(prefixes, key=lambda p: (not re.search(r"teacher|ema", p), len(p)))
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def rekeyed(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A ViT's tensors (from `at_root`) under timm's names and in the shapes of `module`, as far as they have the same."""
    wanted = module.state_dict().keys()
    gated = any(".mlp.gate_proj." in key for key in state)
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, name in _RENAMES:
            key = re.sub(pattern, name, key)
        if gated:
            key = key.replace(".mlp.gate_proj.", ".mlp.fc1_g.").replace(".mlp.up_proj.", ".mlp.fc1_x.")
        key = key.replace(".mlp.up_proj.", ".mlp.fc1.")
        out[key] = value
    if any(".mlp.fc1." in key for key in out):  # DINOv2's w3 is the last map only where w12 was the first
        out = {key.replace(".mlp.w3.", ".mlp.fc2."): value for key, value in out.items()}
    out = {_scale_name(key, wanted): value for key, value in out.items()}
    for key in ("cls_token", "pos_embed"):  # CLIP's have no dimension for the batch
        if key in out and out[key].ndim < 3:
            out[key] = out[key].reshape(1, -1, out[key].shape[-1])
    if "fc_norm.weight" in wanted and "norm.weight" not in wanted:
        out = {re.sub(r"^norm\.", "fc_norm.", key): value for key, value in out.items()}
    for prefix in sorted({m[0] for key in out if (m := re.match(r"blocks\.\d+\.attn\.", key))}):
        _fit_projections(out, prefix, wanted)
    if "pos_embed" in out:
        _fit_positions(out, module)
    return {key: value for key, value in out.items() if key in wanted or not _DROPPED.search(key)}


def optional(key: str) -> bool:
    """Whether a module may keep its own initial value for this key: parts that token fields never read."""
    return bool(_DROPPED.search(key))


def _scale_name(key: str, wanted: Iterable[str]) -> str:
    """Layer scale is `ls1.gamma` in plain ViTs and `gamma_1` in EVA, DeiT-III's and BEiT's files."""
    for other in (re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", key), re.sub(r"\.gamma_([12])$", r".ls\1.gamma", key)):
        if other != key and key not in wanted and other in wanted:
            return other
    return key


def _fit_projections(state: dict[str, Tensor], prefix: str, wanted: Iterable[str]) -> None:
    """Bring one attention's q/k/v to what the module has: packed, separate, with or without (some) biases."""
    names = ("q_proj", "k_proj", "v_proj")
    masked = state.pop(f"{prefix}qkv.bias_mask", None) is not None  # DINOv3's k bias is there and switched off
    weights: list[Tensor | None] = [state.pop(f"{prefix}{n}.weight", None) for n in names]
    biases = [state.pop(f"{prefix}{n}.bias", state.pop(f"{prefix}{n[0]}_bias", None)) for n in names]
    if (packed := state.pop(f"{prefix}qkv.weight", None)) is not None:
        weights = list(packed.chunk(3))
    if (packed := state.pop(f"{prefix}qkv.bias", None)) is not None:
        biases = list(packed.chunk(3))
    if masked or (biases[1] is not None and not biases[1].any()):
        biases[1] = None
    if f"{prefix}qkv.weight" in wanted and all(w is not None for w in weights):
        state[f"{prefix}qkv.weight"] = torch.cat([w for w in weights if w is not None])
    else:
        state.update({f"{prefix}{n}.weight": w for n, w in zip(names, weights, strict=True) if w is not None})
    if f"{prefix}qkv.bias" in wanted and any(b is not None for b in biases):
        width = next(b for b in biases if b is not None)
        state[f"{prefix}qkv.bias"] = torch.cat([torch.zeros_like(width) if b is None else b for b in biases])
        return
    for name, bias in zip(names, biases, strict=True):
        own = next((k for k in (f"{prefix}{name}.bias", f"{prefix}{name[0]}_bias") if k in wanted), None)
        if own is not None and bias is not None:
            state[own] = bias
        elif bias is not None and bool(bias.any()):
            state[f"{prefix}{name}.bias"] = bias  # not zero and not wanted: reported as unexpected
    if f"{prefix}k_proj.bias" in wanted and f"{prefix}k_proj.bias" not in state and biases[0] is not None:
        state[f"{prefix}k_proj.bias"] = torch.zeros_like(biases[0])


def _fit_positions(state: dict[str, Tensor], module: nn.Module) -> None:
    """Positions with or without CLS, of any square grid -> what the module has; resampled as timm does (bicubic, antialias)."""
    own = getattr(module, "pos_embed", None)
    positions = state["pos_embed"]
    if own is None or positions.ndim != 3 or positions.shape[1] == own.shape[1]:
        return
    prefix = 0 if getattr(module, "no_embed_class", False) else int(module.num_prefix_tokens)  # type: ignore[arg-type]
    has = next((n for n in (0, 1, prefix) if math.isqrt(positions.shape[1] - n) ** 2 == positions.shape[1] - n), None)
    if has is None:
        return
    if has == 1 and prefix == 0 and "cls_token" in state:
        state["cls_token"] = state["cls_token"] + positions[:, :1]
        positions = positions[:, 1:]
    elif has == 0 and prefix:
        positions = torch.cat((positions.new_zeros(1, prefix, positions.shape[2]), positions), dim=1)
    grid: tuple[int, int] = module.patch_embed.grid_size  # type: ignore[union-attr, assignment]
    if positions.shape[1] != own.shape[1] and positions.shape[2] == own.shape[2]:
        positions = resample_abs_pos_embed(positions, list(grid), num_prefix_tokens=prefix)
    state["pos_embed"] = positions
