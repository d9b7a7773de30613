"""Protocols of DINOv2's image classification: k-NN with several k, and many linear heads trained on one stream of crops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import Protocol, Source, TaskSettings
from vitbench.catalogue.tasks.settings import ROUNDED, setting
from vitbench.catalogue.tasks.streaming import StreamSettings

_DINOV2 = Source("Oquab et al.", 2023, "2304.07193", "https://github.com/facebookresearch/dinov2")
_CHOICE = "where the choice is made: on held-out train images, or (oracle, as in the source) on the test split"


@dataclass(frozen=True)
class Dinov2KnnSettings(TaskSettings):
    """Settings of `knn_classification@dinov2`."""

    field: str = "cls"
    view: str = "crop"
    k: str = setting("10/20/100/200", "neighbours that vote; of several, joined by /, one is chosen")
    temperature: float = setting(0.07, "a neighbour's weight is softmax(cosine / temperature) over the largest k")
    holdout: float = setting(0.1, "share of train images, by key hash, that choose k (each without its own vote)")
    choose_on: Literal["holdout", "test"] = setting("holdout", _CHOICE)
    n_per_class: int = setting(0, "train images of each class that are remembered, drawn by the seed; 0: all")

    @property
    def stochastic(self) -> bool:
        return self.n_per_class > 0


@dataclass(frozen=True)
class Dinov2LinearSettings(StreamSettings):
    """Settings of `linear_classification@dinov2`."""

    field: str = setting(
        "cls_normed_-4+cls_normed_-3+cls_normed_-2+cls+patch", "CLS of each block, then the averaged tokens"
    )
    view: str = setting("crop", "how test images, held-out images and those a repair is fitted on become network input")
    image_px: int = setting(224, "side of that view and of training crops, rounded down to a multiple of the patch")
    iterations: int = setting(12_500, "optimiser steps")
    batch: int = setting(128, "images per step")
    learning_rate: str = setting(
        "1e-5/2e-5/5e-5/1e-4/2e-4/5e-4/1e-3/2e-3/5e-3/1e-2/2e-2/5e-2/1e-1",
        "rates of SGD per 256 images of a batch, joined by /",
    )
    weight_decay: str = setting("0", "weight decay of SGD")
    warmup: float = setting(0.0, "unused: the rate falls along a cosine from the first step")
    momentum: float = setting(0.9, "momentum of SGD")
    blocks: str = setting("1/4", "how many of the last CLS tokens a head reads, joined by /")
    average: str = setting("0/1", "whether it reads the averaged patch tokens of the last block, too")
    holdout: float = setting(0.1, "share of train images, by key hash, that chooses among the heads")
    choose_on: Literal["holdout", "test"] = setting("holdout", _CHOICE)


DINOV2_KNN = Protocol(
    name="dinov2",
    version=1,
    settings=Dinov2KnnSettings(),
    entry="vitbench.tasks.dinov2_knn:Dinov2Knn",
    summary="As `dino`, with weights from a softmax over the largest k, of which each k takes the first ones; the best k is "
    "chosen.",
    source=_DINOV2,
    selection="heldout",
    differs="The source reports every k on the test split (`choose_on=test` takes the best of them and flags the record as "
    "oracle); here k is chosen on a slice of train. Few-shot memories are those of `n_per_class`, one draw for each of `--seeds`; "
    "k is then chosen among the images that are remembered. Classes with equal votes rank by index. Float32 instead of half "
    "precision in the search. " + ROUNDED,
)

DINOV2_LINEAR = Protocol(
    name="dinov2",
    version=1,
    settings=Dinov2LinearSettings(),
    entry="vitbench.tasks.dinov2_linear:Dinov2Linear",
    streams=True,
    stochastic=True,
    summary="52 linear heads (13 rates x CLS of the last or the last four blocks x with and without averaged patch tokens) trained "
    "at once on one stream of random resized, mirrored crops: SGD, cosine to zero. The best head is chosen and tested on centre "
    "crops.",
    source=_DINOV2,
    selection="heldout",
    differs="The source chooses the head on the images that it reports (`choose_on=test`: the record is then flagged as oracle); "
    "here a tenth of train chooses and is not trained on. The batch is that of one GPU of the source. All heads that read the same "
    "features start at the same weights. Train images go through the backbone anew in every step and no token is stored. A "
    "repair that needs a fit learns it from unaugmented centre crops of the train images. " + ROUNDED,
)
