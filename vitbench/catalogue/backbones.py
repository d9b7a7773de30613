"""Cards of the backbones: the lab's ViTs, public families by timm id, and the controls.

Sizes, prefix tokens, mean and std are what timm's own configurations say (a test compares them); licences too.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import HALF_MEAN, HALF_STD, BackboneCard
from vitbench.catalogue.families import PUBLIC_CARDS

LAB_MEAN, LAB_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@dataclass(frozen=True)
class ControlParams:
    """patch_px: side of a patch in pixels, so that a control can stand beside any backbone."""

    patch_px: int = 8


@dataclass(frozen=True)
class RandomViTParams(ControlParams):
    """seed: of the random initialisation."""

    seed: int = 0


def _lab(name: str, registers: int, notes: str, twin: str = "", attention: str = "softmax") -> BackboneCard:
    return BackboneCard(
        name=name,
        entry="vitbench.backbones.timm:build_lab",
        family="lab",
        kind="lab",
        patch_px=8,
        prefix_tokens=1 + registers,
        registers=registers,
        embed_dim=192,
        depth=6,
        mean=LAB_MEAN,
        std=LAB_STD,
        weights=f"file:{name}",
        position="RoPE in patch units, any size",
        register_twin=twin,
        licence="Apache-2.0",
        notes=f"{notes}; on procedural scenes only, patch embedding started as edge filters; recipe in vitbench/lab",
        options={"attention": attention},
    )


STYLE_PAIRS = "self-supervised: HOG of the same geometry in another style, dense and CLS InfoNCE between the two styles"
LAB_CARDS = (
    _lab("lab_ssl", 0, STYLE_PAIRS, twin="lab_ssl_reg4"),
    _lab("lab_ssl_reg4", 4, f"as lab_ssl with 4 registers: {STYLE_PAIRS}"),
    _lab(
        "lab_ssl_entmax",
        0,
        f"as lab_ssl with entmax-1.5 in place of softmax, one training seed: {STYLE_PAIRS}",
        attention="entmax15",
    ),
    _lab("lab_sup", 0, "supervised: cross-entropy to the class shares of a patch, and to the largest object on CLS"),
    _lab("lab_mae", 0, "masked image modelling: normalised pixels of 75 % masked patches"),
)

CONTROL_CARDS = (
    BackboneCard(
        name="random_vit",
        entry="vitbench.backbones.controls:random_vit",
        family="control",
        kind="control",
        patch_px=8,
        prefix_tokens=1,
        registers=0,
        embed_dim=192,
        depth=6,
        mean=LAB_MEAN,
        std=LAB_STD,
        weights="none:edges",
        position="RoPE in patch units, any size",
        licence="Apache-2.0",
        notes="the lab's architecture as its trainings find it: what architecture and start alone give",
        options={"params": RandomViTParams()},
    ),
    BackboneCard(
        name="patch_colour",
        entry="vitbench.backbones.controls:PatchColour",
        family="control",
        kind="control",
        patch_px=8,
        prefix_tokens=0,
        registers=0,
        embed_dim=192,
        depth=1,
        mean=HALF_MEAN,
        std=HALF_STD,
        weights="none",
        position="none",
        final_norm="none",
        blocks="none",
        licence="Apache-2.0",
        notes="the pixels of each patch, averaged to 8x8: what colour alone gives",
        options={"params": ControlParams()},
    ),
    BackboneCard(
        name="position_only",
        entry="vitbench.backbones.controls:PositionOnly",
        family="control",
        kind="control",
        patch_px=8,
        prefix_tokens=0,
        registers=0,
        embed_dim=64,
        depth=1,
        mean=HALF_MEAN,
        std=HALF_STD,
        weights="none:2",  # the second: probes of tokens that are all alike at a place gave numbers of rounding errors before
        position="cosines of the relative position",
        final_norm="none",
        blocks="none",
        licence="Apache-2.0",
        notes="the same tokens for every image: what position alone gives",
        options={"params": ControlParams()},
    ),
)

BACKBONE_CARDS: tuple[BackboneCard, ...] = (*LAB_CARDS, *PUBLIC_CARDS, *CONTROL_CARDS)
