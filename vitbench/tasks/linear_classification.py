"""Linear classification of images by L2-regularised logistic regression (protocol of Oquab et al. 2023, arXiv 2304.07193)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.classification import LINEAR_CLASSIFICATION, LogregSettings
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.logistic import LogisticHead, fit_logistic
from vitbench.heads.ridge import log_grid
from vitbench.heads.standardise import Standardiser
from vitbench.metrics.classification import hits
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.image_features import image_features, label_count
from vitbench.tasks.units import UnitRows


@dataclass(frozen=True)
class Classifier:
    """Scaling and logistic head."""

    scale: Standardiser
    head: LogisticHead


def _array(x: Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(x.double().cpu().numpy(), np.float64)


class LinearClassification(Task[LogregSettings]):
    """C is chosen on a slice of train, then the head is refitted on all of it."""

    card: ClassVar[TaskCard] = LINEAR_CLASSIFICATION

    def fit(self, train: TokenStream, context: TaskContext) -> Classifier:
        s, features = self.settings, image_features(train, self.settings.field)
        x, y = _array(features.x), features.y.numpy()
        chosen = holdout_keys(features.keys, s.holdout)
        held_out = np.array([key in chosen for key in features.keys])
        scale = Standardiser.fit(x[~held_out]) if s.standardise else Standardiser.identity(x.shape[1])
        grid = log_grid(s.c_low, s.c_high, s.c_steps)
        n_classes = label_count(features, context)
        return Classifier(scale, fit_logistic(scale(x), y, held_out, grid, n_classes, s.max_iter, s.tolerance))

    def measure(self, head: Classifier, test: TokenStream, context: TaskContext) -> Rows:
        units, features = UnitRows(), image_features(test, self.settings.field)
        scores = head.head(head.scale(_array(features.x)))
        for key, row, label in zip(features.keys, scores, features.y.tolist(), strict=True):
            units.add(key, hits(row, label))
        return units.rows()

    def flags(self, head: Classifier, rows: Rows) -> Mapping[str, Any]:
        stopped = {"unconverged_fits": head.head.unconverged} if head.head.unconverged else {}
        return {"C": head.head.chosen_c, **stopped}
