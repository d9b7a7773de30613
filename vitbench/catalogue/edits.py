"""Cards of the repairs that change the forward of a frozen ViT, each with its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import RepairCard, Source
from vitbench.errors import UsageError

Output = Literal["full", "reduced"]
PATCHES = ("patch", "patch_raw")
LAST_BLOCK = (
    "here without text, on any ViT; CLS and registers keep the model's own path; queries and "
    "keys are taken after qk-norm and RoPE, the output after layer scale, where a model has them"
)


def cost_on_clean(points: str) -> str:
    """What was measured on the lab's clean backbone (k-NN mIoU, 80 val scenes, one seed)."""
    return f"; costs the clean lab_ssl {points} points of k-NN mIoU, perhaps because it was made for CLIP"


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


@dataclass(frozen=True)
class RegisterParams:
    """Which neurons are moved, and how. Rules find what is not given.

    top_k: neurons moved (-1: the fewest of 1, 2, 5, 10, ... that leave a tenth of the outliers). top_layer: last block to take
    them from (-1: where outliers first appear). detect: block whose norms tell outliers (-2 where the last block lowers
    them, as in DINOv2-L). threshold: norm of an outlier (0: mean + 3 sd). images: train images read. sparse: only neurons
    that are quiet on most tokens. registers: tokens added. variant: `paper`, or `released` (the authors' hook at batch 1).
    scale: of what the register gets. rest: what other tokens keep of the neurons.
    """

    top_k: int = -1
    top_layer: int = -1
    detect: int = -1
    threshold: float = 0.0
    images: int = 100
    sparse: bool = True
    registers: int = 1
    variant: Literal["paper", "released"] = "paper"
    scale: float = 1.0
    rest: Literal["zero", "mean", "only_outliers", "same"] = "zero"

    def __post_init__(self) -> None:
        for name in ("images", "registers"):
            if getattr(self, name) < 1:
                raise UsageError(f"test_time_registers: {name}={getattr(self, name)} is less than one")
        if self.top_k < -1 or self.top_layer < -1 or self.threshold < 0:
            raise UsageError(
                "test_time_registers: top_k and top_layer are -1 (by rule) or more, threshold is 0 (by rule) or more"
            )


@dataclass(frozen=True)
class SparseAttentionParams:
    """blocks: how many of the last blocks (-1: every block; 0: none, which leaves tokens as they are)."""

    blocks: int = -1

    def __post_init__(self) -> None:
        if self.blocks < -1:
            raise UsageError(f"sparse_attention: blocks={self.blocks} is not a number of blocks", "-1 stands for all")


MASKCLIP = RepairCard(
    name="maskclip",
    entry="vitbench.repairs.maskclip:MaskClip",
    params=MaskClipParams(),
    family="edit",
    acts_on=PATCHES,
    edits=True,
    needs_vit=True,
    attention=lambda _params: True,
    summary="in the last block each patch attends to itself alone",
    source=Source("Zhou et al.", 2022, "2112.01071"),
    upstream_licence="Apache-2.0 (re-implemented)",
    published_for="CLIP, segmentation from text",
    differs=LAST_BLOCK + cost_on_clean("5.5") + "; without its text-based refinements",
    cost=ONE_FORWARD,
)
SCLIP = RepairCard(
    name="sclip",
    entry="vitbench.repairs.sclip:SClip",
    params=SClipParams(),
    family="edit",
    acts_on=PATCHES,
    edits=True,
    needs_vit=True,
    attention=lambda _params: True,
    summary="in the last block patches attend by query-query and by key-key similarity, summed",
    source=Source("Wang et al.", 2024, "2312.01597"),
    upstream_licence="none (re-implemented)",
    published_for="CLIP, segmentation from text",
    differs=LAST_BLOCK + cost_on_clean("2.5"),
    cost=ONE_FORWARD,
)
CLEARCLIP = RepairCard(
    name="clearclip",
    entry="vitbench.repairs.clearclip:ClearClip",
    params=ClearClipParams(),
    family="edit",
    acts_on=PATCHES,
    edits=True,
    needs_vit=True,
    attention=lambda _params: True,
    summary="in the last block patches attend by query-query similarity, without residual and MLP",
    source=Source("Lan et al.", 2024, "2407.12442"),
    upstream_licence="S-Lab, non-commercial (re-implemented)",
    published_for="CLIP, segmentation from text",
    differs=LAST_BLOCK + cost_on_clean("5.0"),
    cost=ONE_FORWARD,
)
NACLIP = RepairCard(
    name="naclip",
    entry="vitbench.repairs.naclip:NaClip",
    params=NaClipParams(),
    family="edit",
    acts_on=PATCHES,
    edits=True,
    needs_vit=True,
    attention=lambda _params: True,
    summary="in the last block patches attend by key-key similarity and nearness, without residual and MLP",
    source=Source("Hajimiri et al.", 2025, "2404.08181"),
    upstream_licence="MIT (re-implemented)",
    published_for="CLIP, segmentation from text",
    differs=LAST_BLOCK + cost_on_clean("4.6") + "; without PAMR",
    cost=ONE_FORWARD,
)
TEST_TIME_REGISTERS = RepairCard(
    name="test_time_registers",
    entry="vitbench.repairs.test_time_registers:AddedRegisters",
    params=RegisterParams(),
    family="edit",
    acts_on=("*",),
    needs=("norms",),
    needs_fit=True,
    edits=True,
    needs_vit=True,
    registers=lambda params: params.registers * (params.top_k != 0),
    summary="moves the activations of neurons that make outliers to a token added at test time",
    source=Source("Jiang et al.", 2025, "2506.08010"),
    upstream_licence="none (re-implemented)",
    published_for="CLIP and OpenCLIP ViT-B/16, DINOv2 ViT-L/14, InternViT-6B",
    differs=(
        "the paper's per-neuron version, for every image of a batch; outliers are sought, and tokens on which a neuron is "
        "quiet counted, among patches only; neurons are ranked by absolute activation and filtered by sparsity as in the "
        "authors' code; how many is a rule of ours; keys and values in place of the token (the paper's A.2) are not here"
    ),
    cost="fit: one pass for norms, then up to two forwards of 100 images and a sweep over 12; a pass of its own, one more token",
)
SPARSE_ATTENTION = RepairCard(
    name="sparse_attention",
    entry="vitbench.repairs.sparse_attention:SparseAttention",
    params=SparseAttentionParams(),
    family="edit",
    acts_on=("*",),
    edits=True,
    needs_vit=True,
    attention=lambda params: params.blocks != 0,
    summary="entmax-1.5 in place of softmax, so that weak attention is zero",
    source=Source("Su", 2026, "2605.23868"),
    upstream_licence="no public code; MIT (the entmax package)",
    published_for="DINO ViT-S/16 trained from scratch with it",
    differs="an ablation: the paper trains with entmax, here it is put into weights that were trained with softmax",
    cost="no fit; a pass of its own, unfused, with a sort of every row of attention in float32",
)

EDIT_CARDS: tuple[RepairCard, ...] = (MASKCLIP, SCLIP, CLEARCLIP, NACLIP, TEST_TIME_REGISTERS, SPARSE_ATTENTION)
