"""Cards of the repairs that change the forward of a frozen ViT, each with its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import RepairCard, Source
from vitbench.errors import UsageError

Output = Literal["full", "reduced"]
PATCHES = ("patch", "patch_raw")
LAST_BLOCK = (
    "published for CLIP with text; here without text, on any ViT; CLS and registers keep the model's own path; queries and "
    "keys are taken after qk-norm and RoPE, the output after layer scale, where a model has them"
)
ONE_FORWARD = "no fit; a pass of its own, its last block unfused"


@dataclass(frozen=True)
class MaskClipParams:
    """output: `full` keeps residual and MLP (the authors' code), `reduced` is the attention's output alone."""

    output: Output = "full"


@dataclass(frozen=True)
class SClipParams:
    """output: as in `maskclip`."""

    output: Output = "full"


@dataclass(frozen=True)
class ClearClipParams:
    """output: as in `maskclip`."""

    output: Output = "reduced"


@dataclass(frozen=True)
class NaClipParams:
    """sigma: width of the neighbourhood in patches. output: as in `maskclip`."""

    sigma: float = 5.0
    output: Output = "reduced"

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise UsageError(f"naclip: sigma={self.sigma} is not a width", "use a number of patches above zero")


MASKCLIP = RepairCard(
    name="maskclip",
    entry="vitbench.repairs.maskclip:MaskClip",
    params=MaskClipParams(),
    family="edit",
    acts_on=PATCHES,
    edits=True,
    summary="in the last block each patch attends to itself alone",
    source=Source("Zhou et al.", 2022, "2112.01071"),
    upstream_licence="Apache-2.0 (re-implemented)",
    differs=LAST_BLOCK + "; without its text-based refinements",
    cost=ONE_FORWARD,
)
SCLIP = RepairCard(
    name="sclip",
    entry="vitbench.repairs.sclip:SClip",
    params=SClipParams(),
    family="edit",
    acts_on=PATCHES,
    edits=True,
    summary="in the last block patches attend by query-query and by key-key similarity, summed",
    source=Source("Wang et al.", 2024, "2312.01597"),
    upstream_licence="none (re-implemented)",
    differs=LAST_BLOCK,
    cost=ONE_FORWARD,
)
CLEARCLIP = RepairCard(
    name="clearclip",
    entry="vitbench.repairs.clearclip:ClearClip",
    params=ClearClipParams(),
    family="edit",
    acts_on=PATCHES,
    edits=True,
    summary="in the last block patches attend by query-query similarity, without residual and MLP",
    source=Source("Lan et al.", 2024, "2407.12442"),
    upstream_licence="S-Lab, non-commercial (re-implemented)",
    differs=LAST_BLOCK,
    cost=ONE_FORWARD,
)
NACLIP = RepairCard(
    name="naclip",
    entry="vitbench.repairs.naclip:NaClip",
    params=NaClipParams(),
    family="edit",
    acts_on=PATCHES,
    edits=True,
    summary="in the last block patches attend by key-key similarity and nearness, without residual and MLP",
    source=Source("Hajimiri et al.", 2025, "2404.08181"),
    upstream_licence="MIT (re-implemented)",
    differs=LAST_BLOCK + "; without PAMR",
    cost=ONE_FORWARD,
)

EDIT_CARDS: tuple[RepairCard, ...] = (MASKCLIP, SCLIP, CLEARCLIP, NACLIP)
