"""A tiny CLIP of open_clip with random weights, and the timm ViT that is its image tower."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from vitbench.backbones.checkpoints import load_weights
from vitbench.backbones.vit import ViT, card_of
from vitbench.catalogue.cards import CLIP_MEAN, CLIP_STD, BackboneCard
from vitbench.catalogue.language import TextTower
from vitbench.catalogue.weights import WeightsState

# open_clip's model -> timm's, both cut down to the same size. EVA-CLIP wraps a timm ViT, whose classifier is the projection: a
# smaller one stands in for it.
PAIRS = {
    "ViT-B-16": "vit_base_patch16_clip_224",
    "ViT-B-16-quickgelu": "vit_base_patch16_clip_quickgelu_224",
    "EVA02-B-16": "vit_xsmall_patch16_clip_224",
}
WIDTH, DEPTH, SIDE = 64, 3, 64


def package() -> Any:
    """open_clip, or the test is skipped."""
    return pytest.importorskip("open_clip", reason="the package open_clip_torch is not installed")


def tiny_clip(model: str, folder: Path, seed: int = 0) -> tuple[nn.Module, Path]:
    """A small instance of an open_clip model, registered as the name of its file `tiny_*`, and its checkpoint."""
    open_clip = package()
    config = open_clip.get_model_config(model)
    config["embed_dim"] = 32
    config["text_cfg"] |= {"width": 48, "heads": 3, "layers": 2}
    if "timm_model_name" not in config["vision_cfg"]:
        config["vision_cfg"] |= {"width": WIDTH, "layers": DEPTH, "head_width": 16, "image_size": SIDE}
    else:
        config["vision_cfg"]["timm_model_name"] = PAIRS[model]
    name = f"tiny_{folder.name}_{model}"
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    settings = copy.deepcopy(config)
    kind = open_clip.CustomTextCLIP if settings.pop("custom_text", False) else open_clip.CLIP
    torch.manual_seed(seed)
    clip = kind(**settings).eval().requires_grad_(False)
    for value in clip.state_dict().values():  # norms and biases that matter
        value.add_(0.1 * torch.randn(value.shape)) if value.is_floating_point() else None
    torch.save(clip.state_dict(), folder / f"{name}.pt")
    return clip, folder / f"{name}.pt"


def image_tower(model: str) -> nn.Module:
    """timm's ViT of the size of `tiny_clip`."""
    sizes = {} if model.startswith("EVA") else {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": 4, "img_size": SIDE}
    module = timm.create_model(PAIRS[model], num_classes=0, dynamic_img_size=True, **sizes)
    return module.eval().requires_grad_(False)


def tiny_card(model: str, tower: TextTower) -> BackboneCard:
    """A card as a plug-in writes one."""
    return BackboneCard(
        "tiny_clip", build, "clip", "model", 16, 1, 0, WIDTH, DEPTH, mean=CLIP_MEAN, std=CLIP_STD, weights="given:a tiny CLIP",
        options={"text_tower": tower, "model": model},
    )  # fmt: skip


def build(card: BackboneCard, weights: WeightsState) -> ViT:
    """The image tower of the checkpoint."""
    module = image_tower(card.options["model"])
    load_weights(module, Path(weights.path), card.name)
    return ViT(module, card_of(module, card), weights.digest)
