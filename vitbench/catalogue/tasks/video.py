"""Card of video label propagation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting
from vitbench.catalogue.views import Resample


@dataclass(frozen=True)
class PropagationSettings(TaskSettings):
    """Settings of `label_propagation@dino`."""

    view: str = "davis"
    image_px: int = 480
    context: int = setting(7, "frames just before the current one whose labels it takes, beside those of the first")
    radius: int = setting(12, "patches around a token's own place among which it looks in each of those frames; 0: all")
    window: Literal["square", "circle"] = setting("square", "shape of that neighbourhood")
    top_k: int = setting(5, "most similar tokens, over all those frames, whose labels are averaged")
    temperature: float = setting(0.1, "they weigh exp(cosine / T)")
    ties: bool = setting(True, "tokens as similar as the last of them count too")
    upsample: Literal["view", "native"] = setting(
        "view",
        "view: labels bilinear to the view, each stretched to 0..1, argmax, nearest to the video's size; "
        "native: each stretched on the grid, bilinear to the video's size, argmax",
    )
    compat: bool = setting(False, "divide red by 0.228, as the evaluation code of DINO does, not by 0.229", later=True)
    resample: Literal["bicubic", "bilinear"] = setting(
        "bicubic", "how frames are resized: bicubic with antialias (PIL), or bilinear without (OpenCV's)", later=True
    )

    @property
    def std(self) -> tuple[float, float, float] | None:
        return (0.228, 0.224, 0.225) if self.compat else None

    @property
    def resampled(self) -> Resample:
        return self.resample

    @property
    def pillow(self) -> bool:
        """Whether the first mask comes to the grid as Pillow rounds, which the source uses, or exactly."""
        return True


@dataclass(frozen=True)
class DinoV3PropagationSettings(PropagationSettings):
    """Settings of `label_propagation@dinov3`."""

    view: str = "short"
    window: Literal["square", "circle"] = setting("circle", "shape of that neighbourhood")
    temperature: float = setting(0.2, "they weigh exp(cosine / T)")
    ties: bool = setting(False, "tokens as similar as the last of them count too")
    upsample: Literal["view", "native"] = setting(
        "native",
        "view: labels bilinear to the view, each stretched to 0..1, argmax, nearest to the video's size; "
        "native: each stretched on the grid, bilinear to the video's size, argmax",
    )

    @property
    def pillow(self) -> bool:
        return False


_SCORE = (
    " J&F as davis2017-evaluation: first and last frame dropped, mean over objects; decay is right beyond 255 frames too "
    "(the evaluation's own is not). Objects are those of the first frame; videos of fewer than three frames or without "
    "objects are left out and counted. Frames are resized by PIL (bicubic, antialiased)"
)

LABEL_PROPAGATION = TaskCard(
    name="label_propagation",
    entry="vitbench.tasks.label_propagation:LabelPropagation",
    title="Video label propagation",
    family="video",
    metric="tracking",
    headline="J&F",
    targets=("segmentation", "frames"),
    splits=("val",),
    summary="The masks of a video's first frame are carried on by similar tokens of earlier frames, no training.",
    protocols=(
        Protocol(
            name="dino",
            version=2,  # 1 brought first masks to some grids by another rounding than the source's
            settings=PropagationSettings(),
            summary="Every token takes the labels of the five most similar tokens near its own place in the first frame and "
            "the seven before, in frames of 480 pixels on the shorter side.",
            source=Source("Caron et al.", 2021, "2104.14294", "https://github.com/facebookresearch/dino"),
            differs="The backbone's own mean and std, unless `compat` (the reference's std has a typing error)."
            + _SCORE
            + ", not as by OpenCV (`resample=bilinear`). Where the patch does not divide 480 and 64, sizes are rounded down to the "
            "patch. Square frames stay square: the reference cuts one side to a multiple of 64.",
        ),
        Protocol(
            name="dinov3",
            version=1,
            settings=DinoV3PropagationSettings(),
            summary="The same with a round neighbourhood, a higher temperature and masks upsampled as probabilities; give "
            "image_px 480, 960 or 1440 (420, 840 or 1260 for patch 14) for the three sizes of the paper.",
            source=Source("Simeoni et al.", 2025, "2508.10104", "https://github.com/facebookresearch/dinov3"),
            differs="The settings of the released notebook; the paper chooses context, neighbourhood, k and temperature on the "
            "train videos for every model. The longer side is rounded down to the patch." + _SCORE + ".",
        ),
    ),
)
