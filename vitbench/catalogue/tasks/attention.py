"""Cards of tasks that read the last block's attention."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting


@dataclass(frozen=True)
class PatchAttentionSettings(TaskSettings):
    """Attention between patches, summed up in the pass."""

    field: str = "attention_spread"


@dataclass(frozen=True)
class ClsAttentionSettings(TaskSettings):
    """Attention from CLS to patches, per head."""

    field: str = "cls_attention"


@dataclass(frozen=True)
class AttentionMassSettings(ClsAttentionSettings):
    """Settings of `attention_segmentation@dino`."""

    image_px: int = 480
    mass: float = setting(
        0.6, "share of a head's attention on patches that the kept ones hold, the largest weights first"
    )


@dataclass(frozen=True)
class RegisterAttentionSettings(TaskSettings):
    """Attention from each register to patches, mean over heads."""

    field: str = "register_attention"


_OWN = "A measure of this suite. Weights on patches are brought to sum one first. "

ATTENTION_SPREAD = TaskCard(
    name="attention_spread",
    entry="vitbench.tasks.attention_spread:AttentionSpread",
    title="Attention spread",
    family="diagnostic",
    metric="attention",
    headline="entropy",
    splits=("val",),
    summary="Over how much of the image the last block attends.",
    protocols=(
        Protocol(
            name="patches",
            version=1,
            settings=PatchAttentionSettings(),
            summary="From patches to patches, mean over heads and patches: entropy in percent of its largest value, "
            "distance in patches, effective number (1 / sum of squares) and support (weights above zero) in percent "
            "of all patches, and the share of attention that falls on patches and not on CLS or registers.",
            differs=_OWN + "Softmax has full support, up to rounding to zero in float32; entmax has not.",
        ),
        Protocol(
            name="cls",
            version=1,
            settings=ClsAttentionSettings(),
            summary="The same from CLS to patches, mean over heads. CLS has no place: distance is that to the map's own centre.",
            differs=_OWN + "Weights are stored in float16: below 6e-8 they are zero.",
        ),
        Protocol(
            name="registers",
            version=1,
            settings=RegisterAttentionSettings(),
            summary="The same from registers to patches, mean over registers; heads are averaged first.",
            differs=_OWN + "Weights are stored in float16: below 6e-8 they are zero.",
        ),
    ),
)

_TTR = Source("Jiang et al.", 2025, "2506.08010", "https://github.com/nickjiang2378/test-time-registers")
_SHARED = (
    "Counts are summed over the split before IoU and accuracy. Objects are those of the data set's object classes; "
    "where it names none, every class but 0; images without any are left out and counted."
)

ATTENTION_SEGMENTATION = TaskCard(
    name="attention_segmentation",
    entry="vitbench.tasks.attention_segmentation:AttentionSegmentation",
    title="Attention segmentation",
    family="diagnostic",
    metric="attention_masks",
    headline="mIoU",
    targets=("segmentation",),
    splits=("val",),
    summary="The object of an image as the part that the last block attends to, no training.",
    protocols=(
        Protocol(
            name="ttr",
            version=1,
            settings=ClsAttentionSettings(),
            summary="Mean over heads of the last block's attention from CLS to patches, brought to the annotation's "
            "size; what is above the mean of the map is object. mIoU of object and background, pixel accuracy, and "
            "the mean over images of the average precision of the map.",
            source=_TTR,
            differs="Published on ImageNet-Segmentation (4,276 images). Upsampling is bilinear. Average precision is that of the "
            "object's pixels; the code of Chefer et al. 2021 (arXiv 2012.09838), whose threshold this is, ranks the object's by "
            "the map and the background's by its complement in one list, on maps and masks of 224x224. Four of "
            "five published values of mIoU are less than half of the accuracy beside them, which a mean over object and background "
            "cannot be: the table is kept as published-only. " + _SHARED,
        ),
        Protocol(
            name="registers",
            version=1,
            settings=RegisterAttentionSettings(),
            summary="The same for each register on its own (`mIoU_register_0`, ...), and the mean over registers.",
            source=_TTR,
            differs="Ours: the paper scores the map of CLS. Which register is best would be chosen on what is scored, so none is. "
            + _SHARED,
        ),
        Protocol(
            name="dino",
            version=1,
            settings=AttentionMassSettings(),
            entry="vitbench.tasks.attention_mass:AttentionMass",
            summary="Of each head of the last block's attention from CLS, the patches that hold 60 % of it, as whole cells; of "
            "each image the head whose mask fits the object best. `Jaccard` is the mean over images of that IoU; the other "
            "measures are those of the same masks.",
            source=Source("Caron et al.", 2021, "2104.14294", "https://github.com/facebookresearch/dino"),
            selection="oracle",
            differs="Published on VOC12. The size of the images and what is done with void pixels and several objects are not "
            "known to us: squares of 480 pixels, left out, and one mask of all. Patches of equal weight are kept or left out "
            "together. " + _SHARED,
        ),
    ),
)
