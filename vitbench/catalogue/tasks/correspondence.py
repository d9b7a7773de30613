"""Cards of correspondence between images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting


@dataclass(frozen=True)
class KeypointSettings(TaskSettings):
    """Settings of `correspondence@pck`."""

    view: str = "square"
    image_px: int = 800
    also: str = setting("", "a second field; every measure is that of the better of the two (empty: none)")
    corners: bool = setting(
        False,
        "as probe3d places points: descriptors read with the grid stretched to the centres of its outer cells, matches at "
        "the corner of their cell; else both at centres of cells",
    )
    sample_pairs: int = setting(
        0, "pairs per class, and per class and viewpoint, chosen by a hash of their names; 0: all"
    )
    scale: Literal["box", "image"] = setting(
        "box",
        "whose larger side in the target image an error is a share of: the object's box, or the image",
        later=True,
    )
    unmoved: bool = setting(
        False,
        "keep image_px and fill up with zeros all round where the patch does not divide it, points staying where they were "
        "(probe3d: 812 pixels for patch 14)",
        later=True,
    )

    @property
    def padded(self) -> bool:
        return self.unmoved


@dataclass(frozen=True)
class Probe3dSettings(KeypointSettings):
    """Settings of `correspondence@probe3d`."""

    field: str = "patch_raw"
    corners: bool = setting(
        True,
        "as probe3d places points: descriptors read with the grid stretched to the centres of its outer cells, matches at "
        "the corner of their cell; else both at centres of cells",
    )
    sample_pairs: int = setting(
        200, "pairs per class, and per class and viewpoint, chosen by a hash of their names; 0: all"
    )


@dataclass(frozen=True)
class DinoV3KeypointSettings(KeypointSettings):
    """Settings of `correspondence@dinov3`."""

    view: str = "resize"
    image_px: int = 1024
    also: str = setting("patch_raw", "a second field; every measure is that of the better of the two (empty: none)")


_SAME = (
    " Every image is encoded once, however many pairs it is in. PCK is per point, beside it per image pair and per class; "
    "PCK_same_place is that of not moving at all. A pair whose target is not among the images (--limit) is left out and counted."
)

CORRESPONDENCE = TaskCard(
    name="correspondence",
    entry="vitbench.tasks.correspondence:Correspondence",
    title="Keypoint correspondence",
    family="correspondence",
    metric="keypoints",
    headline="PCK",
    targets=("keypoints", "label"),
    splits=("val",),
    aux=lambda s: (s.also,) if s.also else (),
    secondary=("PCK_per_image", "PCK_per_class"),
    summary="Points of one image found again in another by the most similar token, no training.",
    protocols=(
        Protocol(
            name="pck",
            version=1,
            settings=KeypointSettings(),
            summary="All pairs; the descriptor of a point is read bilinearly, its match is the centre of the most similar cell. "
            "A match counts within 0.1 of the larger side of the target's object.",
            source=Source("Min et al.", 2019, "1908.10543"),
            differs="The literature fixes pairs and measure, not image size or feature; these are those of `probe3d` for "
            "sharing its passes, with final tokens." + _SAME,
        ),
        Protocol(
            name="probe3d",
            version=1,
            settings=Probe3dSettings(),
            summary="Raw tokens of the last block on images padded to squares with white, 200 pairs per class and viewpoint; "
            "its reported number is PCK_per_class.",
            source=Source("El Banani et al.", 2024, "2404.08636", "https://github.com/mbanani/probe3d"),
            differs="Which 200 pairs depends on their names, not on the order of files (the reference's depends on the machine). "
            "Images go to 800 pixels rounded down to the patch; the reference centre-pads to 812 for patch 14 and leaves the "
            "points where they were (`unmoved`)." + _SAME,
        ),
        Protocol(
            name="dinov3",
            version=1,
            settings=DinoV3KeypointSettings(),
            summary="As `pck` on square images of 1,024 pixels (give image_px=896 for patch 14), with and without the final norm; "
            "the better of the two is reported, as in the paper.",
            source=Source("Simeoni et al.", 2025, "2508.10104", "https://github.com/facebookresearch/dinov3"),
            selection="oracle",
            differs="How points are read and placed is not published; here as in `pck`." + _SAME,
        ),
    ),
)


@dataclass(frozen=True)
class ViewSettings(TaskSettings):
    """Settings of `view_correspondence@probe3d`."""

    image_px: int = 512
    every: int = setting(4, "every so manieth image is compared with one other of its object")
    most_degrees: float = setting(120.0, "largest rotation between the two cameras")
    draw: int = setting(8, "with the image's key it decides which other image that is")
    every_px: int = setting(4, "distance of the pixels of the view that are matched")
    matches: int = setting(1000, "surest matches of a pair that are scored")
    ratio_test: bool = setting(
        True, "a match is as sure as the nearest is nearer than the second nearest; else as its cosine is large"
    )


@dataclass(frozen=True)
class DinoV3ViewSettings(ViewSettings):
    """Settings of `view_correspondence@dinov3`."""

    ratio_test: bool = setting(
        False, "a match is as sure as the nearest is nearer than the second nearest; else as its cosine is large"
    )


_VIEWS = (
    "Pairs are drawn by image keys instead of a generator with seed 8, whose draws depend on the order of files. Matches go one "
    "way, from the image to its partner. The cut to the object is square. The release's quaternion is read as w x y z from object "
    "to camera, the camera looking along z, as in probe3d's code."
)

VIEW_CORRESPONDENCE = TaskCard(
    name="view_correspondence",
    entry="vitbench.tasks.view_correspondence:ViewCorrespondence",
    title="Correspondence between views",
    family="correspondence",
    metric="matches3d",
    headline="recall_3d",
    targets=("depth", "pose"),
    splits=("val",),
    secondary=("recall_2cm",),
    summary="Points of an object found again from another side by the most similar feature, no training.",
    protocols=(
        Protocol(
            name="probe3d",
            version=1,
            settings=ViewSettings(),
            summary="Features upsampled bicubically to every fourth pixel; of the object's pixels the 1,000 whose nearest "
            "neighbour is clearest; recall of errors below 1, 2 and 5 cm, and 5, 25 and 50 pixels, and by rotation at 2 cm. "
            "recall_3d is the mean over 1, 2 and 5 cm.",
            source=Source("El Banani et al.", 2024, "2404.08636", "https://github.com/mbanani/probe3d"),
            differs=_VIEWS,
        ),
        Protocol(
            name="dinov3",
            version=1,
            settings=DinoV3ViewSettings(),
            summary="The same with the 1,000 most similar matches; its reported number is recall_3d (image_px=448 for patch 14).",
            source=Source("Simeoni et al.", 2025, "2508.10104", "https://github.com/facebookresearch/dinov3"),
            differs="The paper matches patches, not pixels between them (`every_px` of a patch). " + _VIEWS,
        ),
    ),
)
