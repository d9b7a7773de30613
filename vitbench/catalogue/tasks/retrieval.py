"""Cards of retrieval: the same object in another picture, the same landmark in a collection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting


@dataclass(frozen=True)
class InstanceSettings(TaskSettings):
    """Settings of `instance_retrieval@first`."""

    view: str = "short"
    image_px: int = 480
    gallery: Literal["first", "previous"] = setting(
        "first",
        "first: an object is looked for among those in the first samples of all videos; previous: among those in the frame before",
    )


@dataclass(frozen=True)
class TrackingSettings(InstanceSettings):
    """Settings of `instance_retrieval@tracking`."""

    gallery: Literal["first", "previous"] = setting(
        "previous",
        "first: an object is looked for among those in the first samples of all videos; previous: among those in the frame before",
    )


_OURS = (
    "The paper's text and code were not available to us; what is known is that instances are retrieved under blur and noise, that "
    "tracking is posed as retrieval, and that the nearest neighbour (k = 1) decides. An object is the mean of its tokens, "
    "each weighted by the share of its cell inside the object's box, by cosine. Of equal similarities the right one ranks last. "
    "Objects that the gallery does not hold are left out and counted."
)
_VANYAN = Source("Vanyan et al.", 2024, "2401.00463")

INSTANCE_RETRIEVAL = TaskCard(
    name="instance_retrieval",
    entry="vitbench.tasks.instance_retrieval:InstanceRetrieval",
    title="Instance retrieval",
    family="correspondence",
    metric="instances",
    headline="top1",
    targets=("boxes", "frames"),
    splits=("val",),
    secondary=("top1_near", "top1_far"),
    summary="The same object found again by the mean of its tokens, no training.",
    protocols=(
        Protocol(
            name="first",
            version=1,
            settings=InstanceSettings(),
            summary="Queries are the objects of all samples but the first of each video, the gallery those of the first samples "
            "of all videos. On scenes_blur, scenes_noise and scenes_zoom the first sample shows a scene as it is, and the others "
            "show it to the side in another light and changed ever more; on clips they are later frames.",
            source=_VANYAN,
            differs=_OURS,
        ),
        Protocol(
            name="tracking",
            version=1,
            settings=TrackingSettings(),
            summary="Tracking as retrieval: every object is looked for among those of the frame before, by its tokens alone.",
            source=_VANYAN,
            differs=_OURS
            + " Objects of the lab's clips move so little from frame to frame that position alone finds them: read "
            "`first` there.",
        ),
    ),
)


@dataclass(frozen=True)
class LandmarkSettings(TaskSettings):
    """Settings of `retrieval@dino`."""

    field: str = "cls"
    view: str = "long"
    image_px: int = 512


@dataclass(frozen=True)
class DinoV3LandmarkSettings(LandmarkSettings):
    """Settings of `retrieval@dinov3`."""

    image_px: int = 224


_REVISITED = (
    " Queries are cut to their box. Medium: easy and hard images are right, junk is not looked at; hard: hard images are "
    "right, easy ones and junk are not looked at. Average precision by trapezoids over recall; queries without a right image "
    "are left out. One size instead of three, no whitening. Images missing from the database (--limit) count as if they "
    "had never been in it. Smaller images are enlarged to the size"
)

RETRIEVAL = TaskCard(
    name="retrieval",
    entry="vitbench.tasks.retrieval:Retrieval",
    title="Landmark retrieval",
    family="image",
    metric="retrieval",
    headline="mAP_M",
    targets=("relevance",),
    secondary=("mAP_H",),
    summary="Images of the same landmark found in a collection by one vector per image. Train split = the collection.",
    protocols=(
        Protocol(
            name="dino",
            version=1,
            settings=LandmarkSettings(),
            summary="CLS by cosine, longer side 512 pixels.",
            source=Source("Caron et al.", 2021, "2104.14294", "https://github.com/facebookresearch/dino"),
            differs="DINO takes three scales on Paris and 224 pixels on Oxford (image_px=224)."
            + _REVISITED
            + ", which its thumbnails are not.",
        ),
        Protocol(
            name="dinov3",
            version=1,
            settings=DinoV3LandmarkSettings(),
            summary="CLS by cosine, longer side 224 pixels.",
            source=Source("Simeoni et al.", 2025, "2508.10104", "https://github.com/facebookresearch/dinov3"),
            differs="The image is not padded to a square of 224." + _REVISITED + ".",
        ),
    ),
)
