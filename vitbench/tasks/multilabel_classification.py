"""Linear classification of images that show several classes (protocol of Ericsson et al. 2021, arXiv 2011.13377).

After Kornblith et al. 2019 (arXiv 1805.08974), whose VOC2007 protocol SimCLR uses, too: one binary classifier per class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vitbench.catalogue.cards import DatasetCard, TaskCard
from vitbench.catalogue.tasks.multilabel import MULTILABEL_CLASSIFICATION, MultilabelSettings
from vitbench.errors import DataError
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.one_vs_rest import Marks, OneVsRest, Stop, fit_one_vs_rest
from vitbench.heads.ridge import log_grid
from vitbench.heads.standardise import Standardiser
from vitbench.metrics.multilabel import UNSURE, mean_average_precision
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.image_features import image_vectors
from vitbench.tasks.units import UnitRows


@dataclass(frozen=True)
class Classifiers:
    """Scaling, one classifier per class, and the names of the classes."""

    scale: Standardiser
    head: OneVsRest
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """Classes that an image shows, and those that only difficult objects in it are of."""

    sure: tuple[int, ...]
    unsure: tuple[int, ...]

    @staticmethod
    def of(target: Mapping[str, Any]) -> Shown:
        unsure = target.get("labels_unsure")
        return Shown(tuple(map(int, target["labels"])), () if unsure is None else tuple(map(int, unsure)))


def class_names(shown: list[Shown], dataset: DatasetCard) -> tuple[str, ...]:
    """As declared, or numbers up to the largest that train shows. Raises DataError where there is none."""
    largest = max((label for s in shown for label in (*s.sure, *s.unsure)), default=-1)
    names = dataset.label_classes or tuple(map(str, range(largest + 1)))
    if not names:
        raise DataError("no image of the train split shows any class", "check the labels")
    return names


def marks_of(shown: list[Shown], keys: tuple[str, ...], classes: int) -> Marks:
    """n k: 1 present, 0 absent, -1 unsure. Raises DataError for a label outside the classes, naming its image."""
    marks = np.zeros((len(shown), classes), np.int8)
    for row, s, key in zip(marks, shown, keys, strict=True):
        for label in (*s.sure, *s.unsure):
            if not 0 <= label < classes:
                raise DataError(
                    f"image {key!r}: label {label} is outside the {classes} classes",
                    "name all label classes of the data set",
                )
        row[list(s.unsure)] = UNSURE
        row[list(s.sure)] = 1
    return marks


def _array(x: Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(x.double().cpu().numpy(), np.float64)


class MultilabelClassification(Task[MultilabelSettings]):
    """C is chosen on a slice of train, then all classifiers are refitted on all of it. Rows hold scores: classes rank images."""

    card: ClassVar[TaskCard] = MULTILABEL_CLASSIFICATION

    def fit(self, train: TokenStream, context: TaskContext) -> Classifiers:
        s = self.settings
        vectors, shown, keys = image_vectors(train, s.field, Shown.of)
        x, classes = _array(vectors), class_names(shown, context.dataset)
        chosen = holdout_keys(keys, s.holdout)
        held_out = np.array([key in chosen for key in keys])
        scale = Standardiser.fit(x[~held_out]) if s.standardise else Standardiser.identity(x.shape[1])
        head = fit_one_vs_rest(
            scale(x), marks_of(shown, keys, len(classes)), held_out, log_grid(s.c_low, s.c_high, s.c_steps),
            Stop(s.max_iter, s.tolerance), partial(mean_average_precision, kind=s.ap), s.unsure == "absent",
        )  # fmt: skip
        return Classifiers(scale, head, classes)

    def measure(self, head: Classifiers, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        vectors, shown, keys = image_vectors(test, self.settings.field, Shown.of)
        scores = head.head(head.scale(_array(vectors)))
        for key, row, marks in zip(keys, scores, marks_of(shown, keys, len(head.classes)), strict=True):
            units.add(key, {"score": row, "mark": marks})
        return units.rows({"classes": list(head.classes), "ap": self.settings.ap})

    def flags(self, head: Classifiers, rows: Rows) -> Mapping[str, Any]:
        shown = (rows.stats["mark"] == 1).any(0)
        lists = {
            "classes_without_classifier": [
                n for n, there in zip(head.classes, head.head.fitted, strict=True) if not there
            ],
            "classes_not_shown": [n for n, there in zip(head.classes, shown, strict=True) if not there],
        }
        stopped = {"unconverged_fits": head.head.unconverged} if head.head.unconverged else {}
        return {"C": head.head.chosen_c, **stopped, **{name: found for name, found in lists.items() if found}}
