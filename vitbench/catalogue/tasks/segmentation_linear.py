"""Protocols of linear segmentation that are fitted on stored tokens, beside the closed form."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import Protocol, Source, TaskSettings
from vitbench.catalogue.tasks.settings import setting

CAPI = Source("Darcet et al.", 2025, "2502.08769", "https://github.com/facebookresearch/capi")


@dataclass(frozen=True)
class SoftmaxSettings(TaskSettings):
    """What the heads by logistic regression share."""

    holdout: float = setting(0.1, "share of train images, by key hash, on which C is chosen by mIoU")
    c_low: int = setting(-6, "log10 of the smallest C")
    c_high: int = setting(5, "log10 of the largest C")
    c_steps: int = setting(8, "values on the logarithmic C grid; ties go to the smallest C")
    max_iter: int = setting(1000, "L-BFGS iterations at most")
    tolerance: float = setting(1e-5, "L-BFGS stops where the largest component of the gradient is below this")


@dataclass(frozen=True)
class LogregSegmentationSettings(SoftmaxSettings):
    """Settings of `linear_segmentation@logreg`."""

    image_px: int = 448


@dataclass(frozen=True)
class CapiLinearSettings(SoftmaxSettings):
    """Settings of `linear_segmentation@capi`."""


@dataclass(frozen=True)
class LeopartLinearSettings(TaskSettings):
    """Settings of `linear_segmentation@leopart`."""

    image_px: int = 448
    learning_rate: float = setting(0.01, "learning rate of SGD")
    momentum: float = setting(0.9, "momentum of SGD")
    weight_decay: float = setting(1e-4, "weight decay of SGD")
    epochs: int = setting(25, "passes over train")
    drop_epoch: int = setting(20, "epoch after which the learning rate is a tenth")
    batch: int = setting(60, "images per step")
    score_px: int = setting(100, "side of the square at which logits and masks meet, in training and in the score")


LOGREG_PROTOCOL = Protocol(
    name="logreg",
    version=2,
    settings=LogregSegmentationSettings(),
    entry="vitbench.tasks.softmax_segmentation:LogregSegmentation",
    summary="Multinomial logistic regression to soft patch labels (the histogram of a cell's valid pixels, weighted by their "
    "share: the pixel cross-entropy of logits that are constant in a cell), features standardised on train; C chosen on a "
    "slice of train, then refitted on all of it; logits bilinear to the label's own resolution, argmax.",
    selection="heldout",
    differs="A fast protocol of this suite, not the 40k-iteration recipe of DINOv2 (arXiv 2304.07193): no augmentation, no "
    "batch norm, one square view instead of a sliding window. Never to be compared with `lin.` numbers.",
)

CAPI_LINEAR_PROTOCOL = Protocol(
    name="capi",
    version=2,
    settings=CapiLinearSettings(),
    entry="vitbench.tasks.softmax_segmentation:CapiSegmentation",
    summary="Multinomial logistic regression to the majority label of a cell, features standardised on train, cells with a "
    "void majority left out; C chosen by mIoU on 10 % of the train images, refitted on all. A cell predicts one class for all "
    "of its pixels; scored at the size of the view.",
    source=CAPI,
    selection="heldout",
    differs="L-BFGS in float32 that stops at a gradient of 1e-5 or 1000 iterations instead of cuML's at 1e-12; every C takes "
    "its steps in the same sweep over the tokens. The held-out images are chosen by key hash instead of a random permutation. "
    "The source ignores labels 0 and 255 of ADE20K: here void is what the data set declares.",
)

LEOPART_LINEAR_PROTOCOL = Protocol(
    name="leopart",
    version=1,
    settings=LeopartLinearSettings(),
    entry="vitbench.tasks.leopart_segmentation:LeopartSegmentation",
    summary="One 1x1 convolution by SGD on cached tokens of square views; logits go bilinearly, masks by nearest neighbour, to "
    "100x100, where the loss is taken and the score counted.",
    source=Source("Ziegler and Asano", 2022, "2204.13101", "https://github.com/MkuuWaUjinga/leopart"),
    stochastic=True,
    differs="Train images are seen whole and as they are: the source crops 80 to 100 % of each at random and mirrors half of "
    "them. Images are resized bicubically, not bilinearly. Weights start at N(0, 0.01) instead of PyTorch's "
    "default; a batch has 60 images, as one of the source's two GPUs. The head after the last epoch is scored: the source keeps "
    "those with the best mIoU on the test images. Masks are sampled at the centres of the 100x100 cells instead of their upper "
    "left corners. Images are shuffled through a window of 2,048 images. The published numbers are for VOC trainaug "
    "(10,582 images) and average 21 classes; classes that occur in neither labels nor predictions do not count here.",
)
