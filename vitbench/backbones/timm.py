"""Building timm ViTs and putting weights into them: shipped, given by file, or from timm's hub.

Position embeddings are resampled by timm (bicubic with antialias), also for weights of other projects, unless another rule
is asked for (`NAME[position=hub]`); a file of another pretraining grid is brought to that of the model by timm in any case.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from vitbench.backbones.checkpoints import load_weights
from vitbench.backbones.lab import build_lab_vit
from vitbench.backbones.positions import follow
from vitbench.backbones.sparse import Sparse, entmax15
from vitbench.backbones.vit import ViT, card_of
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.families import PositionParams
from vitbench.catalogue.weights import WeightsState
from vitbench.errors import UsageError


def build(card: BackboneCard, weights: WeightsState) -> ViT:
    """A backbone by timm id. A hub file is read by timm's own loader, any other by `load_weights`, which is strict.

    A card made from a bare id is completed from the model and timm's configuration.
    """
    if weights.loader == "timm":
        module = create(
            card.timm_id, pretrained=True, pretrained_cfg_overlay={"file": weights.path, "custom_load": False}
        )
    else:
        module = create(card.timm_id)
        load_weights(module, Path(weights.path), card.name)
    rule = card.options.get("params", PositionParams()).position
    return ViT(_frozen(follow(module, rule, card.name)), completed(card, module), weights.digest)


def build_lab(card: BackboneCard, weights: WeightsState) -> ViT:
    """One of the lab's own ViTs, from the shipped file (float16) or from another."""
    module = build_lab_vit(card.registers)
    load_weights(module, Path(weights.path), card.name)
    return lab_view(_frozen(module), card, weights.digest)


def lab_view(module: nn.Module, card: BackboneCard, digest: str = "") -> ViT:
    """A lab ViT as a backbone, with the attention that its card says it was trained with."""
    view = ViT(module, card, digest)
    return view.edited(Sparse(entmax15(), view.depth)) if card.options.get("attention") == "entmax15" else view


def create(timm_id: str, **options: Any) -> nn.Module:
    """A timm ViT without classifier that takes any image size its patch divides. Raises UsageError for what is none."""
    name, _, tag = timm_id.partition(".")
    if not timm.is_model(name):
        near = timm.list_models(f"*{name[:12]}*")[:3]
        raise UsageError(
            f"timm {timm.__version__} has no model {name!r}", f"did you mean {', '.join(near)}?" if near else ""
        )
    if tag and not timm.is_model_pretrained(timm_id):
        known = ", ".join(timm.list_pretrained(f"{name}.*")[:5])
        raise UsageError(f"timm {timm.__version__} has no weights {timm_id!r}", f"it has {known}" if known else "")
    try:
        module: nn.Module = timm.create_model(timm_id, num_classes=0, dynamic_img_size=True, **options)
    except TypeError as error:  # models of other kinds do not know the option
        raise UsageError(f"timm model {timm_id!r} does not take images of any size", "choose a ViT") from error
    return module


def completed(card: BackboneCard, module: nn.Module) -> BackboneCard:
    """The card as it is where it knows the model; else with the model's facts and timm's mean and std."""
    if card.depth:
        return card
    from dataclasses import replace

    config: Any = module.pretrained_cfg
    return replace(card_of(module, card), mean=tuple(config["mean"]), std=tuple(config["std"]))


def patch_px_of(timm_id: str) -> int:
    """Patch size of a timm id that does not say it in its name; no weights and no memory are needed."""
    with torch.device("meta"):
        module = create(timm_id)
    return card_of(module, BackboneCard(timm_id, "", "timm", "model", 0, 0, 0, 0, 0)).patch_px


def _frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)
