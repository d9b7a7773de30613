"""Protocols that augment in every step and therefore stream: linear segmentation and depth of DINOv2, DINOv3 and DVT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import Protocol, Source, TaskSettings
from vitbench.catalogue.tasks.settings import setting

DINOV2 = Source("Oquab et al.", 2023, "2304.07193", "https://github.com/facebookresearch/dinov2")
DINOV3 = Source("Simeoni et al.", 2025, "2508.10104", "https://github.com/facebookresearch/dinov3")
DVT = Source("Yang et al.", 2024, "2401.02957", "https://github.com/Jiawei-Yang/Denoising-ViT")
_STREAM = (
    "Train images go through the backbone anew in every step and no token is stored; several rates or decays, and repairs that "
    "only map tokens, are trained on the same stream. A repair that needs a fit learns it from unaugmented centre crops of the "
    "train images."
)


@dataclass(frozen=True)
class StreamSettings(TaskSettings):
    """What streaming protocols share."""

    view: str = setting("crop", "how a repair that needs a fit sees train images (training itself draws its own crops)")
    image_px: int = setting(518, "size of that view in pixels, rounded down to a multiple of the patch")
    iterations: int = setting(40_000, "optimiser steps")
    batch: int = setting(16, "images per step")
    learning_rate: str = setting("1e-3", "learning rate of AdamW; several, joined by /, are trained at once")
    weight_decay: str = setting("1e-4", "weight decay of AdamW, also of biases and norms; several, joined by /")
    warmup: float = setting(0.0375, "share of the iterations in which the rate rises linearly from a millionth")
    holdout: float = setting(0.05, "share of train images that chooses among heads; unused where there is one head")


@dataclass(frozen=True)
class StreamSegmentationSettings(StreamSettings):
    """Settings of `linear_segmentation@dinov2` and `@dinov3`."""

    crop_px: int = setting(512, "side of training crops and of test windows, before padding to a multiple of the patch")
    stride_px: int = setting(341, "step of the test windows")
    short_px: int = setting(512, "shorter side of images, before the random scale of 0.5 to 2 in training")
    long_px: int | None = setting(2048, "longer side at most; none: free")
    cat_max_ratio: float = setting(
        0.75, "share of a crop's valid pixels that one class may have, else it is drawn again"
    )
    hue: float = setting(0.1, "largest turn of the hue, as a share of the circle")
    antialias: bool = setting(False, "resize images with an antialiasing filter")
    schedule: Literal["poly", "cosine", "one_cycle"] = setting(
        "poly", "how the learning rate falls (poly, linearly, or cosine: from the start; one_cycle: after the warm-up)"
    )
    dropout: float = setting(0.0, "share of channels dropped per image in training")
    scales: str = setting("1", "sizes at which a test image is seen, as factors of the above, joined by /")
    flip: bool = setting(False, "also see the mirror image of each; class probabilities are averaged over all")
    mean_over: Literal["all", "valid"] = setting(
        "all",
        "pixels that the mean of the loss counts: all (as mmsegmentation 0.x and DINOv3), or labelled ones",
        later=True,
    )


@dataclass(frozen=True)
class StreamDepthSettings(StreamSettings):
    """Settings of `depth@dinov2`, `@dinov2_lin4`, `@dinov3` and `@dvt`."""

    field: str = "patch_raw+cls_block_-1"
    iterations: int = setting(38_400, "optimiser steps")
    learning_rate: str = setting("1e-4", "learning rate of AdamW; several, joined by /, are trained at once")
    weight_decay: str = setting("1e-2", "weight decay of AdamW, also of biases and norms; several, joined by /")
    warmup: float = setting(1 / 3, "share of the iterations in which the rate rises linearly from a millionth")
    crop_h: int = setting(416, "height of training crops, before padding to a multiple of the patch")
    crop_w: int = setting(544, "width of training crops")
    border: Literal["none", "nyu"] = setting(
        "nyu", "border left out of train images (nyu: rows 45:472, columns 43:608)"
    )
    bins: int = setting(256, "depths, evenly spaced, over which a pixel has a distribution")
    min_depth_m: float = setting(1e-3, "first bin; pixels at this depth or nearer are not valid")
    max_depth_m: float = setting(10.0, "last bin; pixels farther (in tests: this far or farther) are not valid")
    upsample: int = setting(4, "bilinear upsampling of the logits before they become depths")
    norm: bool = setting(False, "batch norm before the linear layer")
    schedule: Literal["poly", "cosine", "one_cycle"] = setting(
        "cosine",
        "how the learning rate falls (poly, linearly, or cosine: from the start; one_cycle: after the warm-up)",
    )
    final_rate: float = setting(0.0, "the learning rate at the end, as a share of the largest")
    beta1: str = setting("0.9", "first moment of AdamW; HIGH/LOW falls while the rate rises, and rises again")
    beta2: float = setting(0.999, "second moment of AdamW")
    clip: float = setting(35.0, "largest norm of a head's gradient")
    mean_only: int = setting(
        100, "first iterations, in which the loss leaves the variance out: to be few, at low rates"
    )
    images_per_loss: int = setting(2, "images over which the loss takes its mean and variance (the source: one GPU's)")
    crop: Literal["none", "eigen", "garg"] = setting("eigen", "part of the image that is scored (NYUv2, KITTI)")
    flip: bool = setting(True, "average the depths of each test image with those of its mirror image")


_WARMUP = (
    "The warm-up starts at a millionth of the rate, and the first moment of AdamW stays at 0.9: DVT's configuration of this "
    "recipe starts at a thousandth and lets it go from 0.95 to 0.85 and back. "
)
_NO_TRANSFER = (
    "A head is scored on the data set that it was trained on: SUN RGB-D, published with heads of NYUv2, is left out. "
)
_SEGMENTATION = "vitbench.tasks.slide_segmentation:SlideSegmentation"
_DEPTH = "vitbench.tasks.binned_depth:BinnedDepth"

DINOV2_SEGMENTATION = Protocol(
    name="dinov2",
    version=2,
    settings=StreamSegmentationSettings(),
    entry=_SEGMENTATION,
    streams=True,
    stochastic=True,
    summary="The `lin.` recipe: random scale, crop, flip and colours in every step, crops centre-padded to a multiple of the "
    "patch; batch norm and a 1x1 convolution; pixel cross-entropy on logits upsampled to the crop, averaged over all "
    "pixels, void included. Test windows slide, their logits are averaged, resized to the label and scored there.",
    source=DINOV2,
    differs="Plain PyTorch instead of mmsegmentation 0.27; hue has 256 steps (PIL) instead of 180 (OpenCV). "
    "4 blocks: `field=last4`; several scales: "
    "`dinov2_ms`. " + _STREAM,
)

DINOV2_MS_SEGMENTATION = Protocol(
    name="dinov2_ms",
    version=2,
    settings=StreamSegmentationSettings(
        field="last4", crop_px=640, stride_px=427, short_px=640, long_px=None, scales="1/1.32/1.73", flip=True
    ),
    entry=_SEGMENTATION,
    streams=True,
    stochastic=True,
    summary="The `+ms` recipe: as `dinov2`, from the last four blocks at 640 pixels; test images are seen at three scales and "
    "mirrored, and class probabilities at the label's size are averaged.",
    source=DINOV2,
    differs="The released configurations hold up to five scales; these are the three that the source's own notebook keeps. The "
    "longer side is free, and windows of 640 pixels move by two thirds of their size as in `dinov2`: what the source does there "
    "is not known to us. Plain PyTorch instead of mmsegmentation 0.27; hue has 256 steps (PIL) instead of 180 (OpenCV). "
    + _STREAM,
)

DINOV3_SEGMENTATION = Protocol(
    name="dinov3",
    version=2,
    settings=StreamSegmentationSettings(
        weight_decay="1e-3", long_px=None, hue=0.5, antialias=True, schedule="one_cycle", dropout=0.1
    ),
    entry=_SEGMENTATION,
    streams=True,
    stochastic=True,
    summary="As `dinov2`, with channel dropout before the norm, a one-cycle cosine schedule, the longer side free, and hues "
    "turned all the way round.",
    source=DINOV3,
    differs="The paper sweeps rates {1e-4, 3e-4, 1e-3} and decays {1e-4, 1e-3} (`learning_rate=1e-4/3e-4/1e-3,"
    "weight_decay=1e-4/1e-3`: chosen here on held-out train images) and takes 1,024 tokens from every model "
    "(`crop_px=448` for patch 14). Void is what the data set declares; the source always drops label 0. " + _STREAM,
)

_AS_TRAINED = "Colour changes are made on values in 0..1 and rounded to 8 bits. The final heads are scored. "
_DEPTH_DIFFERS = (
    "SigLoss only: the released gradient term compares images instead of pixels and is zero for two images per GPU. "
    + _AS_TRAINED
)

DINOV2_DEPTH = Protocol(
    name="dinov2",
    version=1,
    settings=StreamDepthSettings(),
    entry=_DEPTH,
    streams=True,
    stochastic=True,
    summary="The `lin. 1` recipe: raw tokens of the last block with CLS beside them, one linear layer to 256 bins, four "
    "times upsampled, depth as the mean bin; SigLoss; rotation, flip, crop and colours in every step. Tests average the "
    "depths of an image and its mirror image, inside the Eigen crop; metrics per image, then their mean.",
    source=DINOV2,
    differs=_DEPTH_DIFFERS + _WARMUP + _NO_TRANSFER + _STREAM,
)

DINOV2_LIN4_DEPTH = Protocol(
    name="dinov2_lin4",
    version=1,
    settings=StreamDepthSettings(field="quarters_raw+cls_quarters_raw"),
    entry=_DEPTH,
    streams=True,
    stochastic=True,
    summary="The `lin. 4` recipe: as `dinov2`, from four blocks, one at the end of each quarter, each with its CLS.",
    source=DINOV2,
    differs=_DEPTH_DIFFERS + _WARMUP + _NO_TRANSFER + _STREAM,
)

DINOV3_DEPTH = Protocol(
    name="dinov3",
    version=1,
    settings=StreamDepthSettings(
        field="patch", learning_rate="3e-4", weight_decay="1e-4", upsample=1, norm=True, schedule="one_cycle",
        final_rate=1e-3, beta1="0.95/0.85", beta2=0.99,
    ),
    entry=_DEPTH,
    streams=True,
    stochastic=True,
    summary="Patches through the final norm, batch norm and a 1x1 convolution to 256 bins; SigLoss; one-cycle cosine schedule. "
    "Tests as in `dinov2`.",
    source=DINOV3,
    differs="Rotation and colours are those of `dinov2`; the warm-up starts from a millionth of the rate, and the final rate is a "
    "thousandth of the largest. `mae` is not reported. " + _AS_TRAINED + _STREAM,
)  # fmt: skip

DVT_DEPTH = Protocol(
    name="dvt",
    version=1,
    settings=StreamDepthSettings(field="patch+cls", learning_rate="5e-3"),
    entry=_DEPTH,
    streams=True,
    stochastic=True,
    summary="As `dinov2`, with the final norm and a learning rate of 5e-3.",
    source=DVT,
    differs="The source keeps the checkpoint with the best abs_rel on the test set. "
    + _DEPTH_DIFFERS
    + _WARMUP
    + _STREAM,
)
