"""The architecture of the lab's ViTs: small, RoPE only, trained from scratch on scenes (`vitbench/lab/train.py`).

Positions are rotary and in patch units, so that weights trained on small crops keep their length scale at 192 px;
there is no absolute position embedding. Rotary positions: Su et al. 2021 (arXiv 2104.09864).
"""

from __future__ import annotations

import math

import torch
from timm.models.eva import Eva
from torch import nn

PATCH_PX = 8
EMBED_DIM = 192
DEPTH = 6
HEADS = 3
IMAGE_PX = 192
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # of images in 0 to 1
ROPE_TEMPERATURE = 100.0  # wavelengths from 6 to 600 patches
RESIDUAL_SCALE = 0.25  # of the usual initial scale, else all tokens of an image look alike


def build_lab_vit(registers: int = 0) -> Eva:
    """A randomly initialised lab ViT (2.7 M parameters, patch 8, any image size that 8 divides).

    `forward_features` takes b 3 h w (normalised by MEAN and STD) and returns b n 192 after the final norm: CLS,
    `registers` register tokens, then h/8 * w/8 patch tokens row by row. Initial values come from torch's generator.
    """
    model = Eva(
        img_size=IMAGE_PX,
        patch_size=PATCH_PX,
        num_classes=0,
        global_pool="token",
        embed_dim=EMBED_DIM,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=4.0,
        class_token=True,
        num_reg_tokens=registers,
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type="cat",
        rope_temperature=ROPE_TEMPERATURE,
        ref_feat_shape=None,
        dynamic_img_size=True,
    )
    for name, module in model.blocks.named_modules():
        if isinstance(module, nn.Linear):
            residual = name.endswith(("attn.proj", "mlp.fc2"))
            gain = RESIDUAL_SCALE if residual else 1.0
            nn.init.trunc_normal_(module.weight, std=gain / math.sqrt(module.in_features))
    for token in (model.cls_token, model.reg_token):
        if token is not None:
            nn.init.normal_(token, std=0.5)
    return model


def encode(model: Eva, images: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
    """The final tokens (b n 192, prefix first) of images (b 3 h w), of all patches or of those at `keep` (b k).

    With `keep` None this is `model.forward_features`; patches that are not kept are never seen by the blocks.
    """
    if keep is None:
        tokens: torch.Tensor = model.forward_features(images)
        return tokens
    tokens, rope = model._pos_embed(model.patch_embed(images))
    prefix = model.num_prefix_tokens
    index = keep[..., None].expand(-1, -1, tokens.shape[-1])
    tokens = torch.cat((tokens[:, :prefix], tokens[:, prefix:].gather(1, index)), 1)
    rope = rope[keep][:, None]  # b 1 k d: broadcast over heads
    for block in model.blocks:
        tokens = block(tokens, rope=rope)
    normed: torch.Tensor = model.norm(tokens)
    return normed


def start_with_edges(student: Eva) -> None:
    """Start five sixths of the patch embedding as Gabor filters without a mean, so that shading is seen before colour.

    From plain noise the mean colour of a patch drowns its edges for the first thousand steps.
    """
    weight = student.patch_embed.proj.weight
    count, channels, side, _ = weight.shape
    count = count * 5 // 6
    y, x = torch.meshgrid(*[torch.arange(side) - (side - 1) / 2] * 2, indexing="ij")
    angle, phase = torch.rand(count) * math.pi, torch.rand(count) * 2 * math.pi
    wavelength = 3.5 * (16 / 3.5) ** torch.rand(count)
    centre = (torch.rand(2, count) - 0.5) * side * 0.6
    dx, dy = x - centre[0, :, None, None], y - centre[1, :, None, None]
    along = dx * angle.cos()[:, None, None] + dy * angle.sin()[:, None, None]
    wave = (2 * math.pi * along / wavelength[:, None, None] + phase[:, None, None]).cos()
    filters = wave * (-(dx.square() + dy.square()) / (0.3 * side) ** 2 / 2).exp()
    filters = filters - filters.mean((1, 2), keepdim=True)
    filters = filters / filters.square().sum((1, 2), keepdim=True).sqrt()
    with torch.no_grad():
        weight[:count] = filters[:, None] * (1 + 0.3 * torch.randn(count, channels, 1, 1)) / math.sqrt(channels)
