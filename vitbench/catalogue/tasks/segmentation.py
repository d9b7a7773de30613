"""Cards of the segmentation tasks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.segmentation_knn import CAPI_KNN_PROTOCOL, CENTROID_KNN_PROTOCOL, LOCAL_KNN_PROTOCOL
from vitbench.catalogue.tasks.segmentation_linear import CAPI_LINEAR_PROTOCOL, LEOPART_LINEAR_PROTOCOL, LOGREG_PROTOCOL
from vitbench.catalogue.tasks.settings import RidgeSettings, setting
from vitbench.catalogue.tasks.streaming import DINOV2_MS_SEGMENTATION, DINOV2_SEGMENTATION, DINOV3_SEGMENTATION


@dataclass(frozen=True)
class RidgeSegmentationSettings(RidgeSettings):
    """Settings of `linear_segmentation@ridge`."""

    image_px: int = 448


@dataclass(frozen=True)
class HummingbirdSettings(TaskSettings):
    """Settings of `knn_segmentation@hummingbird`."""

    image_px: int = 512
    k: int = setting(30, "neighbours per query token")
    temperature: float = setting(0.02, "beta: attention is softmax(cosine / beta) over the neighbours")
    memory_size: int = setting(102_400, "tokens in memory, the same number per train image; 0 keeps all")
    compat: bool = setting(
        False,
        "reproduce the reference: blue is divided by 0.255 instead of 0.225, void counts as class 0 in memory, predictions "
        "are Hungarian-matched to the labels, classes absent from the labels enter the mean with IoU 0",
    )
    void: Literal["first", "own"] = setting(
        "first",
        "where `compat` files void: under class 0, or as a class of its own, which is never right and enters the mean with IoU 0 "
        "(ADE20K, of which the reference keeps label 0 as a class that it ignores where it scores)",
        later=True,
    )

    @property
    def std(self) -> tuple[float, float, float] | None:
        return (0.229, 0.224, 0.255) if self.compat else None


LINEAR_SEGMENTATION = TaskCard(
    name="linear_segmentation",
    entry="vitbench.tasks.linear_segmentation:LinearSegmentation",
    title="Linear segmentation",
    family="dense",
    metric="segmentation",
    headline="mIoU",
    targets=("segmentation",),
    aux=lambda _: ("flags",),
    secondary=("mIoU_objects", "patch_accuracy", "flagged_accuracy"),
    summary="One linear layer from patch tokens to classes.",
    protocols=(
        Protocol(
            name="ridge",
            version=1,
            settings=RidgeSegmentationSettings(),
            summary="Closed-form ridge regression to soft patch labels (the histogram of a cell's valid pixels, weighted by "
            "their share); logits bilinear to the label's own resolution, argmax.",
            selection="heldout",
            differs="A fast protocol of this suite, not the 40k-iteration recipe of DINOv2 (arXiv 2304.07193): squared error "
            "instead of pixel cross-entropy, no augmentation, one square view instead of a sliding window. Lower by design; "
            "never to be compared with `lin.` numbers. Logits go from the grid to label pixels in one bilinear step.",
        ),
        LOGREG_PROTOCOL,
        CAPI_LINEAR_PROTOCOL,
        LEOPART_LINEAR_PROTOCOL,
        DINOV2_SEGMENTATION,
        DINOV2_MS_SEGMENTATION,
        DINOV3_SEGMENTATION,
    ),
)

KNN_SEGMENTATION = TaskCard(
    name="knn_segmentation",
    entry="vitbench.tasks.knn_segmentation:KnnSegmentation",
    title="k-NN segmentation",
    family="dense",
    metric="segmentation",
    headline="mIoU",
    targets=("segmentation",),
    aux=lambda _: ("flags",),
    secondary=("mIoU_objects", "patch_accuracy", "flagged_accuracy"),
    stochastic=True,
    summary="Every token takes the labels of its nearest train tokens, no training.",
    protocols=(
        Protocol(
            name="hummingbird",
            version=1,
            settings=HummingbirdSettings(),
            summary="Soft patch labels of the k most similar memory tokens, averaged by softmax attention, bilinear to the "
            "view, argmax, scored at the size of the view. Bounded memories prefer patches of classes rare in their image.",
            source=Source("Balazevic et al.", 2023, "2306.01667", "https://github.com/vpariza/open-hummingbird-eval"),
            differs="One un-augmented pass over train instead of two augmented ones; the backbone's own mean and std instead "
            "of the reference's mistyped std (unless `compat`); float32; exact search. Void pixels are left out of memory "
            "unless `compat`. "
            "At least one token per train image is kept, whatever the memory size.",
        ),
        CAPI_KNN_PROTOCOL,
        LOCAL_KNN_PROTOCOL,
        CENTROID_KNN_PROTOCOL,
    ),
)
