"""Cards of tasks that ask where patches are most like the CLS token."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting

_APART = " A repair that maps patches and CLS, each with statistics of its own, is not applicable: the two could not be compared."


@dataclass(frozen=True)
class AlignmentSettings(TaskSettings):
    """Settings of `foreground_alignment@masks`."""

    share: float = setting(0.5, "a patch is foreground if objects have at least this share of its labelled pixels")


@dataclass(frozen=True)
class PointSettings(TaskSettings):
    """Settings of `point_in_box@last_vit`."""

    view: str = "crop"


@dataclass(frozen=True)
class ClsSimilaritySettings(TaskSettings):
    """Settings of `patch_cls_similarity@blocks`."""

    field: str = "cls_similarity"
    block: int = setting(-1, "block of the headline (negative counts from the end); all blocks are reported")


FOREGROUND_ALIGNMENT = TaskCard(
    name="foreground_alignment",
    entry="vitbench.tasks.foreground:ForegroundAlignment",
    title="Foreground alignment",
    family="diagnostic",
    metric="foreground",
    headline="AUC",
    targets=("segmentation",),
    splits=("val",),
    aux=lambda _: ("cls",),
    compared="cls",
    summary="Whether the patches that are like CLS are those of the objects.",
    protocols=(
        Protocol(
            name="masks",
            version=1,
            settings=AlignmentSettings(),
            summary="AUC of the cosine with CLS for foreground against background patches, and the mean cosine of "
            "the foreground minus that of the background; both image by image, then the mean. Images whose patches "
            "are all of one kind are left out and counted.",
            differs="A measure of this suite: the formula of the paper on sparse attention (arXiv 2605.23868) could "
            "not be read. Objects are those of the data set's object classes; where it names none, every class but 0."
            + _APART,
        ),
    ),
)

POINT_IN_BOX = TaskCard(
    name="point_in_box",
    entry="vitbench.tasks.foreground:PointInBox",
    title="Point in box",
    family="diagnostic",
    metric="pointing",
    headline="hit",
    targets=("boxes",),
    splits=("val",),
    aux=lambda _: ("cls",),
    compared="cls",
    summary="Whether the patch that is most like CLS lies in the box of an object.",
    protocols=(
        Protocol(
            name="last_vit",
            version=1,
            settings=PointSettings(),
            summary="The patch with the largest cosine with CLS hits if a true box touches it (from floor(min / "
            "patch) to floor(max / patch)). `hit_single` is over images with one box, as the source scores ImageNet; "
            "chance is the share of patches that boxes touch, and the centre is that of the image.",
            source=Source("Shi et al.", 2026, "2602.22394", "https://github.com/ChengShiest/LAST-ViT"),
            differs="Images with several boxes count too, in `hit`: any of them will do. Images of which no box is "
            "in view are left out and counted." + _APART,
        ),
    ),
)

PATCH_CLS_SIMILARITY = TaskCard(
    name="patch_cls_similarity",
    entry="vitbench.tasks.cls_similarity:PatchClsSimilarity",
    title="Patch-CLS similarity",
    family="diagnostic",
    metric="cls_similarity",
    headline="cosine",
    splits=("val",),
    summary="How like CLS the patches become, block by block.",
    protocols=(
        Protocol(
            name="blocks",
            version=1,
            settings=ClsSimilaritySettings(),
            summary="Mean cosine of patches with CLS after every block (`cosine_block_i`), and its standard "
            "deviation within an image (`spread_block_i`): what is global spreads through the patches where the "
            "first rises and the second falls.",
            differs="A measure of this suite for what the paper on sparse attention (arXiv 2605.23868) calls "
            "semantic diffusion; its formula could not be read. Before the final norm. Backbones without CLS are "
            "compared with their mean patch.",
        ),
    ),
)
