"""Card of the depth task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import Protocol, TaskCard
from vitbench.catalogue.tasks.settings import RidgeSettings, setting
from vitbench.catalogue.tasks.streaming import DINOV2_DEPTH, DINOV2_LIN4_DEPTH, DINOV3_DEPTH, DVT_DEPTH


@dataclass(frozen=True)
class RidgeDepthSettings(RidgeSettings):
    """Settings of `depth@ridge`."""

    image_px: int = 448
    min_depth_m: float = setting(1e-3, "pixels at this depth or nearer are not valid")
    max_depth_m: float = setting(80.0, "pixels at this depth or farther are not valid")
    crop: Literal["none", "eigen"] = setting("none", "part of the image that is scored (eigen: the NYUv2 crop)")


DEPTH = TaskCard(
    name="depth",
    entry="vitbench.tasks.depth:Depth",
    title="Linear depth",
    family="dense",
    metric="depth",
    headline="d1",
    targets=("depth",),
    summary="One linear layer from patch tokens to metric depth.",
    protocols=(
        Protocol(
            name="ridge",
            version=1,
            settings=RidgeDepthSettings(),
            summary="Closed-form ridge regression to the mean log depth of a cell, weighted by its share of valid pixels; "
            "bilinear in log depth to the label's own resolution. Metrics per image, then their mean.",
            selection="heldout",
            differs="A fast protocol of this suite, not the DINOv2 recipe (arXiv 2304.07193): one output in log depth instead "
            "of 256 bins, no augmentation, no flip average, no CLS concatenation. Log depth because the metrics are ratios "
            "(d1, abs_rel, silog) and one output stays a closed form. Predictions are clamped to the range of train depths.",
        ),
        DINOV2_DEPTH,
        DINOV2_LIN4_DEPTH,
        DINOV3_DEPTH,
        DVT_DEPTH,
    ),
)
