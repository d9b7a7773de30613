"""Cards of the public backbone families, named by timm id: one table row per model, one family for what rows share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from vitbench.catalogue.cards import (
    CLIP_MEAN,
    CLIP_STD,
    HALF_MEAN,
    HALF_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    BackboneCard,
    Source,
)

TIMM_ENTRY = "vitbench.backbones.timm:build"

IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)
CLIP = (CLIP_MEAN, CLIP_STD)
HALF = (HALF_MEAN, HALF_STD)

PositionRule = Literal["timm", "hub", "transformers"]
POSITION_RULES: dict[PositionRule, str] = {
    "timm": "timm: bicubic, antialias",
    "hub": "torch.hub: bicubic, no antialias, offset 0.1",
    "transformers": "transformers: bicubic, no antialias",
}


@dataclass(frozen=True)
class PositionParams:
    """position: whose rule brings learned absolute positions to a grid that is not that of pretraining.

    timm: bicubic with antialias to the exact size, in which torch.hub's register models and transformers'
    `Dinov2WithRegisters` agree. hub: bicubic without antialias by scale factors (grid + 0.1) / pretraining grid, as torch.hub
    does for DINO and for DINOv2 without registers, and as transformers' `Dinov2` once did. transformers: bicubic without
    antialias to the exact size, as its `Dinov2` does now.
    """

    position: PositionRule = "timm"


LEARNED = f"learned; {POSITION_RULES['timm']}"
HUB_PLAIN = f"{LEARNED} (torch.hub: no antialias, offset 0.1)"
HUB_REGISTERS = f"{LEARNED} (torch.hub: antialias, offset 0)"
LEARNED_AND_ROPE = f"{LEARNED}; RoPE, rescaled to the pretraining grid"
ROPE = "RoPE in relative coordinates, any size"
RADIO_CROPPED = f"{LEARNED} (upstream: resized to a square, then cropped)"

DIMS = {192: 12, 384: 12, 768: 12, 1024: 24, 1152: 27, 1280: 32, 1536: 40}  # depth by width, in all these families


@dataclass(frozen=True)
class Family:
    """What the models of one family share."""

    name: str
    source: Source
    licence: str
    position: str = LEARNED
    norm: tuple[tuple[float, float, float], tuple[float, float, float]] = IMAGENET
    registers: int = 0
    cls: int = 1
    final_norm: str = "norm"
    lost_feature: Literal["key", "query", "value"] = "key"
    notes: str = ""
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)  # by timm id

    def cards(self, rows: Iterable[tuple[str, int, int]]) -> tuple[BackboneCard, ...]:
        """Cards of rows (timm id, patch in pixels, embedding width)."""
        return tuple(self._card(timm_id, patch_px, dim) for timm_id, patch_px, dim in rows)

    def _card(self, timm_id: str, patch_px: int, dim: int) -> BackboneCard:
        facts: dict[str, Any] = {
            "family": self.name,
            "prefix_tokens": self.cls + self.registers,
            "registers": self.registers,
            "depth": DIMS[dim],
            "mean": self.norm[0],
            "std": self.norm[1],
            "position": self.position,
            "final_norm": self.final_norm,
            "lost_feature": self.lost_feature,
            "licence": self.licence,
            "source": self.source,
            "notes": self.notes,
            **self.changes.get(timm_id, {}),
        }
        if LEARNED in self.position:
            facts["options"] = {**facts.get("options", {}), "params": PositionParams()}
        named: dict[str, Any] = {"name": timm_id, "entry": TIMM_ENTRY, **facts}
        return BackboneCard(kind="model", patch_px=patch_px, embed_dim=dim, timm_id=timm_id, **named)


DINO = Family("dino", Source("Caron et al.", 2021, "2104.14294"), "apache-2.0")
MAE = Family("mae", Source("He et al.", 2021, "2111.06377"), "cc-by-nc-4.0")
SCALE_MAE = Family(
    "scale_mae",
    Source("Reed et al.", 2022, "2212.14532", "https://github.com/bair-climate-initiative/scale-mae"),
    "cc-by-nc-4.0",
    position="sin-cos; timm: bicubic, antialias (upstream: computed for every size and ground sample distance)",
    notes="weights by file only; positions are those of the pretraining grid at a ground sample distance of 1",
    changes={
        "vit_large_patch16_224.mae": {
            "weights": "given:a pretraining checkpoint of Scale-MAE ViT-L/16",
            "entry": "vitbench.backbones.scale_mae:build",
            "name": "vit_large_patch16_224.scale_mae",
        }
    },
)
AUGREG = Family("augreg", Source("Steiner et al.", 2021, "2106.10270"), "apache-2.0", norm=HALF)
DEIT = Family("deit", Source("Touvron et al.", 2020, "2012.12877"), "apache-2.0")
DEIT3 = Family("deit3", Source("Touvron et al.", 2022, "2204.07118"), "apache-2.0", lost_feature="value")
OPENAI_CLIP = Family(
    "clip",
    Source("Radford et al.", 2021, "2103.00020"),
    "apache-2.0",
    norm=CLIP,
    notes="trained with QuickGELU, which timm builds only under this name",
    changes={
        "vit_base_patch16_clip_quickgelu_224.openai": {"options": {"hub": "timm/vit_base_patch16_clip_224.openai"}},
        "vit_large_patch14_clip_quickgelu_224.openai": {"options": {"hub": "timm/vit_large_patch14_clip_224.openai"}},
    },
)
OPENCLIP = Family(
    "openclip",
    Source("Cherti et al.", 2022, "2212.07143"),
    "apache-2.0",
    norm=CLIP,
    lost_feature="value",
    changes={"vit_large_patch14_clip_224.laion2b": {"mean": HALF_MEAN, "std": HALF_STD}},
)
DINOV2 = Family(
    "dinov2",
    Source("Oquab et al.", 2023, "2304.07193"),
    "apache-2.0",
    position=HUB_PLAIN,
    changes={
        f"vit_{size}_patch14_dinov2.lvd142m": {"register_twin": f"vit_{size}_patch14_reg4_dinov2.lvd142m"}
        for size in ("small", "base", "large", "giant")
    },
)
DINOV2_REGISTERS = Family(
    "dinov2_reg",
    Source("Darcet et al.", 2023, "2309.16588"),
    "apache-2.0",
    position=HUB_REGISTERS,
    registers=4,
)
SIGLIP2 = Family("siglip2", Source("Tschannen et al.", 2025, "2502.14786"), "apache-2.0", norm=HALF, cls=0)
EVA02 = Family(
    "eva02",
    Source("Fang et al.", 2023, "2303.11331"),
    "mit",
    position=LEARNED_AND_ROPE,
    norm=CLIP,
    final_norm="fc_norm",
    notes="trained to average its tokens: the norm of `patch` is the one that follows the average",
)
EVA_CLIP = Family("eva02_clip", Source("Sun et al.", 2023, "2303.15389"), "mit", position=LEARNED_AND_ROPE, norm=CLIP)
DINOV3 = Family("dinov3", Source("Siméoni et al.", 2025, "2508.10104"), "dinov3-license", position=ROPE, registers=4)
PE_SPATIAL = Family(
    "pe_spatial",
    Source("Bolya et al.", 2025, "2504.13181"),
    "apache-2.0",
    position=LEARNED_AND_ROPE,
    norm=HALF,
    final_norm="none",
    notes="no final norm: `patch` and `patch_raw` are the same",
)
RADIO = Family(
    "radio",
    Source("Heinrich et al.", 2024, "2412.07679"),
    "nvidia-open-model-license",
    position=RADIO_CROPPED,
    norm=CLIP,
    registers=7,
    final_norm="none",
    notes="first CLS of several counted as CLS, the others as registers; no final norm",
)

PUBLIC_CARDS: tuple[BackboneCard, ...] = (
    *DINO.cards(
        (
            ("vit_small_patch16_224.dino", 16, 384),
            ("vit_small_patch8_224.dino", 8, 384),
            ("vit_base_patch16_224.dino", 16, 768),
            ("vit_base_patch8_224.dino", 8, 768),
        )
    ),
    *MAE.cards((("vit_base_patch16_224.mae", 16, 768), ("vit_large_patch16_224.mae", 16, 1024))),
    *SCALE_MAE.cards((("vit_large_patch16_224.mae", 16, 1024),)),
    *AUGREG.cards(
        (
            ("vit_small_patch16_224.augreg_in21k", 16, 384),
            ("vit_base_patch16_224.augreg_in21k", 16, 768),
            ("vit_base_patch16_384.augreg_in21k_ft_in1k", 16, 768),
            ("vit_large_patch16_224.augreg_in21k", 16, 1024),
        )
    ),
    *DEIT.cards(
        (
            ("deit_tiny_patch16_224.fb_in1k", 16, 192),
            ("deit_small_patch16_224.fb_in1k", 16, 384),
            ("deit_base_patch16_224.fb_in1k", 16, 768),
        )
    ),
    *DEIT3.cards(
        (
            ("deit3_small_patch16_224.fb_in1k", 16, 384),
            ("deit3_base_patch16_224.fb_in1k", 16, 768),
            ("deit3_base_patch16_224.fb_in22k_ft_in1k", 16, 768),
            ("deit3_large_patch16_224.fb_in1k", 16, 1024),
        )
    ),
    *OPENAI_CLIP.cards(
        (
            ("vit_base_patch16_clip_quickgelu_224.openai", 16, 768),
            ("vit_large_patch14_clip_quickgelu_224.openai", 14, 1024),
        )
    ),
    *OPENCLIP.cards(
        (
            ("vit_base_patch16_clip_224.laion2b", 16, 768),
            ("vit_base_patch16_clip_384.laion2b_ft_in12k_in1k", 16, 768),
            ("vit_large_patch14_clip_224.laion2b", 14, 1024),
        )
    ),
    *DINOV2.cards(
        (
            ("vit_small_patch14_dinov2.lvd142m", 14, 384),
            ("vit_base_patch14_dinov2.lvd142m", 14, 768),
            ("vit_large_patch14_dinov2.lvd142m", 14, 1024),
            ("vit_giant_patch14_dinov2.lvd142m", 14, 1536),
        )
    ),
    *DINOV2_REGISTERS.cards(
        (
            ("vit_small_patch14_reg4_dinov2.lvd142m", 14, 384),
            ("vit_base_patch14_reg4_dinov2.lvd142m", 14, 768),
            ("vit_large_patch14_reg4_dinov2.lvd142m", 14, 1024),
            ("vit_giant_patch14_reg4_dinov2.lvd142m", 14, 1536),
        )
    ),
    *SIGLIP2.cards(
        (
            ("vit_base_patch16_siglip_224.v2_webli", 16, 768),
            ("vit_base_patch16_siglip_512.v2_webli", 16, 768),
            ("vit_large_patch16_siglip_256.v2_webli", 16, 1024),
            ("vit_so400m_patch14_siglip_224.v2_webli", 14, 1152),
        )
    ),
    *EVA02.cards((("eva02_small_patch14_224.mim_in22k", 14, 384), ("eva02_base_patch14_224.mim_in22k", 14, 768))),
    *EVA_CLIP.cards(
        (("eva02_base_patch16_clip_224.merged2b", 16, 768), ("eva02_large_patch14_clip_224.merged2b", 14, 1024))
    ),
    *DINOV3.cards(
        (
            ("vit_small_patch16_dinov3.lvd1689m", 16, 384),
            ("vit_base_patch16_dinov3.lvd1689m", 16, 768),
            ("vit_large_patch16_dinov3.lvd1689m", 16, 1024),
        )
    ),
    *PE_SPATIAL.cards(
        (
            ("vit_pe_spatial_small_patch16_512.fb", 16, 384),
            ("vit_pe_spatial_base_patch16_512.fb", 16, 768),
            ("vit_pe_spatial_large_patch14_448.fb", 14, 1024),
        )
    ),
    *RADIO.cards((("vit_base_patch16_radio_v3.c_radio", 16, 768), ("vit_large_patch16_radio_v3.c_radio", 16, 1024))),
)
