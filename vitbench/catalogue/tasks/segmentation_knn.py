"""Protocols of k-NN segmentation beside hummingbird."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import Protocol, Source, TaskSettings
from vitbench.catalogue.tasks.segmentation_linear import CAPI
from vitbench.catalogue.tasks.settings import setting


@dataclass(frozen=True)
class CapiKnnSettings(TaskSettings):
    """Settings of `knn_segmentation@capi`."""

    ks: str = setting("1/3/10/30", "numbers of neighbours tried, joined by /")
    distances: str = setting("cosine/l2", "distances tried, joined by /")
    holdout: float = setting(0.1, "share of train images, by key hash, on which k and distance are chosen by mIoU")
    standardise: bool = setting(True, "scale features to zero mean and unit variance on train first")
    memory_size: int = setting(0, "tokens in memory, the same number per train image; 0 keeps all, as the source does")
    compat: bool = setting(
        False, "reproduce the reference: a void pixel among the predictions makes void a class of IoU 0 in the mean"
    )


@dataclass(frozen=True)
class LocalKnnSettings(TaskSettings):
    """Settings of `knn_segmentation@local`."""

    shots: int = setting(10, "labelled train images, drawn by the seed; 0 takes all")
    k: int = setting(1, "neighbours that vote; ties go to the lowest class")


@dataclass(frozen=True)
class CentroidKnnSettings(TaskSettings):
    """Settings of `knn_segmentation@centroid`."""

    image_px: int = 518
    k: int = setting(20, "centroids that vote for a pixel; ties go to the lowest class")
    distance: Literal["cosine", "l2"] = setting("cosine", "how near a pixel's feature is to a centroid")


CAPI_KNN_PROTOCOL = Protocol(
    name="capi",
    version=2,
    settings=CapiKnnSettings(),
    entry="vitbench.tasks.pixel_knn:PixelKnnSegmentation",
    summary="Memory of all train tokens with the labels of every pixel of their cell; a test cell takes, pixel by pixel, the "
    "most frequent label among its neighbours' cells, ties to the lowest label. Train cells with a void majority are left "
    "out. k and distance are chosen by mIoU on 10 % of the train images, which then join the memory. Scored at the size of "
    "the view.",
    source=CAPI,
    selection="heldout",
    differs="The held-out images are chosen by key hash instead of a random permutation; ties between settings go to the "
    "first. Void predicted for single pixels is a miss but no class of its own unless `compat`. The source ignores labels 0 "
    "and 255 of ADE20K: here void is what the data set declares.",
)

LOCAL_KNN_PROTOCOL = Protocol(
    name="local",
    version=1,
    settings=LocalKnnSettings(),
    entry="vitbench.tasks.patch_knn:PatchKnnSegmentation",
    summary="Few-shot patch k-NN: the cells of a few train images, each with its majority label, vote by cosine similarity; a "
    "cell predicts one class for all of its pixels. Scored at the size of the view; `patch_accuracy` is the cells that are "
    "right.",
    source=Source("Vanyan et al.", 2024, "2401.00463"),
    differs="Our reading: the paper's code, shots and fit set are not published; k = 1 is what it says. Tiles that are encoded "
    "one by one are `view=slide`.",
)

CENTROID_KNN_PROTOCOL = Protocol(
    name="centroid",
    version=1,
    settings=CentroidKnnSettings(),
    entry="vitbench.tasks.centroid_knn:CentroidSegmentation",
    summary="Memory of one centroid per class and train image (the mean of bilinearly upsampled features under the class's "
    "mask); every pixel of a test image is classified by its 20 nearest centroids.",
    source=Source("Yang et al.", 2024, "2401.02957", "https://github.com/Jiawei-Yang/Denoising-ViT"),
    differs="Our reading of Table 5, whose code is not published: the distance (cosine), the vote (one per neighbour) and the "
    "size of the view are ours. Scored at the label's own resolution.",
)
