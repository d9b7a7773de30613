"""Which text tower was trained with a backbone, and whether it is here: what planning must know. No torch, no open_clip.

The pairs are those of timm's and open_clip's own lists of weights: the names of the models, and the repository on the hub that
holds both towers. A backbone of a plug-in names its own: `options={"text_tower": TextTower(...)}`.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue import hub
from vitbench.catalogue.cards import BackboneCard, DatasetCard
from vitbench.catalogue.weights import describe_backbone
from vitbench.errors import DataError
from vitbench.identity import digest

TWO_TOWER_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class TextTower:
    """By open_clip's names: the configuration of the model, the tag of its weights, and the hub repository of both towers."""

    model: str
    tag: str = ""
    hub: str = ""


# OpenAI's and MetaCLIP's weights were trained with QuickGELU, which timm builds only under the names that say so.
TEXT_TOWERS: Mapping[str, TextTower] = {
    "vit_base_patch32_clip_224.laion2b": TextTower("ViT-B-32", "laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    "vit_base_patch16_clip_224.laion2b": TextTower("ViT-B-16", "laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
    "vit_large_patch14_clip_224.laion2b": TextTower("ViT-L-14", "laion2b_s32b_b82k", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"),
    "vit_huge_patch14_clip_224.laion2b": TextTower("ViT-H-14", "laion2b_s32b_b79k", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
    "vit_base_patch16_clip_224.datacompxl": TextTower(
        "ViT-B-16", "datacomp_xl_s13b_b90k", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K"
    ),
    "vit_large_patch14_clip_224.datacompxl": TextTower(
        "ViT-L-14", "datacomp_xl_s13b_b90k", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K"
    ),
    **{
        f"vit_{size}_clip_224.laion400m_e32": TextTower(model, "laion400m_e32", f"timm/vit_{size}_clip_224.laion400m_e32")
        for size, model in (("base_patch16", "ViT-B-16"), ("large_patch14", "ViT-L-14"))
    },
    **{
        f"vit_{size}_clip_quickgelu_224.{tag}": TextTower(f"{model}-quickgelu", name, f"timm/vit_{size}_clip_224.{tag}")
        for size, model in (("base_patch32", "ViT-B-32"), ("base_patch16", "ViT-B-16"), ("large_patch14", "ViT-L-14"))
        for tag, name in (("openai", "openai"), ("metaclip_400m", "metaclip_400m"), ("metaclip_2pt5b", "metaclip_fullcc"))
    },
    "eva02_base_patch16_clip_224.merged2b": TextTower(
        "EVA02-B-16", "merged2b_s8b_b131k", "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k"
    ),
    "eva02_large_patch14_clip_224.merged2b": TextTower(
        "EVA02-L-14", "merged2b_s4b_b131k", "timm/eva02_large_patch14_clip_224.merged2b_s4b_b131k"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class TextState:
    """Whether the text tower of a backbone can run here. digest and path are those of its weights; reason, remedy: why not."""

    status: Literal["ready", "download", "unavailable", "not_applicable"]
    tower: TextTower = TextTower("")
    digest: str = ""
    path: str = ""
    reason: str = ""
    remedy: str = ""

    def identity(self, dataset: DatasetCard) -> dict[str, str]:
        """What of it changes a number: the model, its weights, and the names that it is asked for."""
        return {"model": self.tower.model, "digest": self.digest, "classes": digest(list(dataset.label_classes))}


def text_tower(card: BackboneCard) -> TextTower | None:
    """The text tower that was trained with a backbone; None where there is none, or none that its CLS is compared with."""
    own = card.options.get("text_tower")
    return own if isinstance(own, TextTower) else TEXT_TOWERS.get(card.timm_id)


def describe_text(name: str, weights: Mapping[str, str] | None = None, offline: bool = False) -> TextState:
    """The state of the text tower of a backbone (its defects left aside). A file given for the backbone serves both towers.

    Raises UsageError for a name that means nothing.
    """
    card, state = describe_backbone(name, weights, offline)
    tower = text_tower(card)
    if tower is None:
        return without_text(card)
    if importlib.util.find_spec("open_clip") is None:
        reason = f"the text tower of {card.name!r} needs the package open_clip_torch"
        return TextState("unavailable", tower, reason=reason, remedy="pip install 'vitbench[open_clip]'")
    if state.path and state.loader != "timm":
        return TextState("ready", tower, state.digest, state.path)
    if tower.hub and (snapshot := hub.cached(tower.hub, TWO_TOWER_FILES)):
        return TextState("ready", tower, snapshot.revision[:16], str(snapshot.file))
    reason = f"the text tower of {card.name!r} is not on this machine"
    remedy = f"pass --weights {card.name.partition('[')[0]}=FILE, an open_clip checkpoint with both towers"
    if not tower.hub:
        return TextState("unavailable", tower, reason=reason, remedy=remedy)
    remedy += f", or run `hf download {tower.hub} {TWO_TOWER_FILES[0]}` where there is a network"
    return TextState("unavailable" if offline or hub.set_offline() else "download", tower, reason=reason, remedy=remedy)


def fetch_text(state: TextState) -> TextState:
    """Download the file with both towers. Raises UnavailableError, within seconds where there is no network."""
    snapshot = hub.fetch(state.tower.hub, TWO_TOWER_FILES)
    return TextState("ready", state.tower, snapshot.revision[:16], str(snapshot.file))


def without_text(card: BackboneCard) -> TextState:
    """Why a backbone has no text tower to be compared with."""
    native = card.timm_id.replace("_clip_", "_clip_quickgelu_")
    if native != card.timm_id and native in TEXT_TOWERS:
        reason = f"the weights of {card.name} were trained with QuickGELU: {native} is that model"
    elif re.search(r"siglip|_pe_core|tips", card.timm_id):
        reason = f"the image embedding of {card.name} is pooled by attention, it is not its CLS"
    else:
        reason = f"{card.name} was not trained with a text tower that is known"
    return TextState("not_applicable", reason=reason)


def class_words(card: DatasetCard) -> tuple[str, ...]:
    """Names of a data set's image classes as a prompt can hold them, by label; WordNet ids are left as they are.

    Numbers in front, the letter that SUN397 and Places sort by, underscores and slashes are no words. Raises DataError where
    there are no names.
    """
    names = card.label_classes
    if not names:
        raise DataError(f"data set {card.name!r} does not name its image classes", "prompts need names")
    words = tuple(_words(name) for name in names)
    if nameless := [name for name, said in zip(names, words, strict=True) if re.fullmatch(r"\d*", said)]:
        raise DataError(
            f"data set {card.name!r}: image class {nameless[0]!r} is not a name",
            "prompts need names, write them as `label` in labels.csv",
        )
    return words


def _words(name: str) -> str:
    bare = re.sub(r"^\d+\.", "", name.strip().lstrip("/"))
    return re.sub(r"[_/\s]+", " ", re.sub(r"^[a-z]/", "", bare)).strip()
