"""Card of unsupervised segmentation by clusters of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting

_LEOPART = Source("Ziegler and Asano", 2022, "2204.13101", "https://github.com/MkuuWaUjinga/leopart")
_DIFFERS = (
    "One k-means per seed of the suite; published numbers are means over five (`--seeds 0,1,2,3,4`). faiss draws 256 points "
    "per cluster itself. Images are resized bicubically, not bilinearly; cluster maps and masks are sampled at the centres of "
    "the 100x100 cells instead of their upper left corners. The naming is found once and held fixed by the bootstrap. Classes "
    "that occur in neither labels nor predictions do not count; published means are over all 21 classes of VOC."
)


@dataclass(frozen=True)
class ClusterSettings(TaskSettings):
    """Settings of `cluster_segmentation@leopart` and `@leopart_over`."""

    image_px: int = 448
    clusters: int = setting(
        0, "clusters, named many to one by precision; 0: one per class, named by Hungarian matching"
    )
    components: int = setting(50, "principal components that are clustered (all channels where there are fewer)")
    iterations: int = setting(50, "k-means iterations")
    restarts: int = setting(5, "k-means runs, of which the best is kept")
    score_px: int = setting(
        100, "side of the square on which cluster maps and masks are compared, by nearest neighbour"
    )


CLUSTER_SEGMENTATION = TaskCard(
    name="cluster_segmentation",
    entry="vitbench.tasks.cluster_segmentation:ClusterSegmentation",
    title="Cluster segmentation",
    family="dense",
    metric="segmentation",
    headline="mIoU",
    targets=("segmentation",),
    splits=("val",),
    aux=lambda _: ("flags",),
    secondary=("mIoU_objects", "patch_accuracy", "flagged_accuracy"),
    stochastic=True,
    summary="k-means over all tokens of the test images, clusters named by the labels.",
    protocols=(
        Protocol(
            name="leopart",
            version=1,
            settings=ClusterSettings(),
            summary="Tokens standardised per channel, reduced by PCA, as many clusters as classes; the Hungarian matching of "
            "clusters to classes by IoU names them; cluster maps and masks meet at 100x100.",
            source=_LEOPART,
            differs=_DIFFERS,
        ),
        Protocol(
            name="leopart_over",
            version=1,
            settings=ClusterSettings(clusters=500),
            summary="The same with 500 clusters, each named after the class that most of its pixels have.",
            source=_LEOPART,
            differs=_DIFFERS,
        ),
    ),
)
