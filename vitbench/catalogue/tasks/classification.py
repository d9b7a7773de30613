"""Cards of the image-level tasks: what the CLS token knows, which a repair of patch tokens must not hurt."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.image_dinov2 import DINOV2_KNN, DINOV2_LINEAR
from vitbench.catalogue.tasks.settings import ROUNDED, setting


@dataclass(frozen=True)
class DinoKnnSettings(TaskSettings):
    """Settings of `knn_classification@dino`."""

    field: str = "cls"
    view: str = "crop"
    k: int = setting(20, "neighbours that vote (all train images where there are fewer)")
    temperature: float = setting(0.07, "a neighbour votes with exp(cosine / temperature)")


@dataclass(frozen=True)
class LogregSettings(TaskSettings):
    """Settings of `linear_classification@logreg`."""

    field: str = "cls"
    view: str = "crop"
    holdout: float = setting(0.1, "share of train images, by key hash, on which C is chosen by accuracy")
    c_low: int = setting(-6, "log10 of the smallest C")
    c_high: int = setting(5, "log10 of the largest C")
    c_steps: int = setting(12, "values on the logarithmic C grid; ties go to the smallest C")
    max_iter: int = setting(1000, "L-BFGS iterations at most")
    tolerance: float = setting(1e-4, "L-BFGS stops where the largest gradient component is below this")
    standardise: bool = setting(False, "scale features to zero mean and unit variance on train first")


KNN_CLASSIFICATION = TaskCard(
    name="knn_classification",
    entry="vitbench.tasks.knn_classification:KnnClassification",
    title="k-NN classification",
    family="image",
    metric="classification",
    headline="top1",
    targets=("label",),
    summary="Weighted k-NN on L2-normalised image features, memory = train split.",
    protocols=(
        Protocol(
            name="dino",
            version=1,
            settings=DinoKnnSettings(),
            summary="Each of the k most similar train images votes for its class with exp(cosine / T).",
            source=Source("Caron et al.", 2021, "2104.14294", "https://github.com/facebookresearch/dino"),
            differs="Classes with equal votes rank by index (the reference ranks them arbitrarily); top-5 is undefined with "
            "five classes or fewer; the test split is not cut into 100 chunks, so fewer than 100 images work. "
            + ROUNDED,
        ),
        DINOV2_KNN,
    ),
)

LINEAR_CLASSIFICATION = TaskCard(
    name="linear_classification",
    entry="vitbench.tasks.linear_classification:LinearClassification",
    title="Linear classification",
    family="image",
    metric="classification",
    headline="top1",
    targets=("label",),
    summary="A linear classifier of image features.",
    protocols=(
        Protocol(
            name="logreg",
            version=1,
            settings=LogregSettings(),
            summary="L2-regularised multinomial logistic regression: features once per image, C chosen on a slice of train, "
            "refit on all of train, float64.",
            source=Source("Oquab et al.", 2023, "2304.07193", "https://github.com/facebookresearch/dinov2"),
            selection="heldout",
            differs="scikit-learn L-BFGS instead of cuML; 12 values of C over the same range instead of 45; tolerance 1e-4 "
            "(scikit-learn's scale) instead of 1e-12. Features are neither standardised nor L2-normalised, as in the source. "
            + ROUNDED,
        ),
        DINOV2_LINEAR,
    ),
)
