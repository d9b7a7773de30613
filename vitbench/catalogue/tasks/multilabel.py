"""Card of classification where an image shows several classes, such as PASCAL VOC 2007."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting


@dataclass(frozen=True)
class MultilabelSettings(TaskSettings):
    """Settings of `multilabel_classification@logreg`."""

    field: str = "cls"
    view: str = "centre"
    holdout: float = setting(0.5, "share of train images, by key hash, on which C is chosen by mAP")
    c_low: int = setting(-5, "log10 of the smallest C")
    c_high: int = setting(6, "log10 of the largest C")
    c_steps: int = setting(12, "values on the logarithmic C grid; ties go to the smallest C")
    max_iter: int = setting(1000, "L-BFGS iterations at most")
    tolerance: float = setting(1e-4, "L-BFGS stops where the largest gradient component is below this")
    standardise: bool = setting(False, "scale features to zero mean and unit variance on train first")
    ap: Literal["voc07", "voc07_from_one", "area", "voc10"] = setting(
        "voc07",
        "voc07: mean of the best precision at or beyond eleven recalls; voc07_from_one: the same with precision 1 at recall 0; "
        "area: under precision over recall as it is; voc10: area under the best precision at or beyond each recall",
    )
    unsure: Literal["left_out", "absent"] = setting(
        "left_out",
        "how a classifier is fitted on images that show its class in objects marked difficult only; never measured on them",
    )


MULTILABEL_CLASSIFICATION = TaskCard(
    name="multilabel_classification",
    entry="vitbench.tasks.multilabel_classification:MultilabelClassification",
    title="Multi-label classification",
    family="image",
    metric="multilabel",
    headline="mAP",
    targets=("labels",),
    summary="One linear classifier per class, of images that show several classes.",
    protocols=(
        Protocol(
            name="logreg",
            version=1,
            settings=MultilabelSettings(),
            summary="One L2-regularised binary logistic regression per class on features of the shorter side at 224 pixels and its "
            "centre crop; one C for all classes, chosen by mAP, then a refit on all of train. mAP is the mean over classes of "
            "VOC2007's eleven-point average precision.",
            source=Source("Ericsson et al.", 2021, "2011.13377", "https://github.com/linusericsson/ssl-transfer"),
            selection="heldout",
            differs="C is chosen on half of train by key hash instead of VOC's own val, which is half of its trainval, too; 12 "
            "values of C over the same range instead of 45, tolerance 1e-4, at most 1,000 iterations. The source's code has "
            "precision 1 at recall 0 whatever ranks first (`ap=voc07_from_one`), VOC's own has not. Images of equal score "
            "come in together, and recalls are compared as numbers of images. An image in which all objects of a class are marked "
            "difficult does not count for that class, as in VOC's evaluation; whether the source fits on it is not known (VISSL's "
            "SVMs do: `unsure=absent`). A class that no test image shows is not in the mean; one that cannot be fitted ranks all "
            "images alike. CLS of a ViT instead of pooled features of a ResNet. In the lab's scenes a class is shown where an "
            "object has a box, and unsure where its visible parts are too small for one.",
        ),
    ),
)
