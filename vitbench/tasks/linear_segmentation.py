"""Linear segmentation in closed form on cached patch tokens (the fast protocol of specs 4.9: soft patch labels)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.segmentation import LINEAR_SEGMENTATION, RidgeSegmentationSettings
from vitbench.heads.ridge import RidgeFit
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.patch_labels import batch_soft_labels, class_count, object_classes
from vitbench.tasks.ridge_fit import fit_ridge_on
from vitbench.tasks.segmentation_rows import image_stats
from vitbench.tasks.units import UnitRows
from vitbench.tasks.upsample import LabelSampler


class LinearSegmentation(Task[RidgeSegmentationSettings]):
    """Ridge regression of soft patch labels, upsampled and scored at label resolution."""

    card: ClassVar[TaskCard] = LINEAR_SEGMENTATION

    def fit(self, train: TokenStream, context: TaskContext) -> RidgeFit:
        n_classes = class_count(train, context)

        def targets(batch: Batch) -> tuple[Tensor, Tensor]:
            labels, share = batch_soft_labels(batch, n_classes, context.dataset.ignore_index)
            device = batch.tokens[self.settings.field].device
            return torch.from_numpy(labels).to(device), torch.from_numpy(share).to(device)

        return fit_ridge_on(train, self.settings, n_classes, targets)

    def measure(self, head: RidgeFit, test: TokenStream, context: TaskContext) -> Rows:
        units, ignore = UnitRows(), context.dataset.ignore_index
        for batch in test:
            logits = head.head(batch.tokens[self.settings.field])
            for i, key in enumerate(batch.tokens.keys):
                label = np.asarray(batch.targets[i]["segmentation"])
                sampler = LabelSampler(batch.tokens.geometry, i, (label.shape[0], label.shape[1]), logits.device)
                predicted = sampler.classes(logits[i])
                stats = image_stats(batch, i, predicted, label[sampler.rows, sampler.cols], logits[i], context)
                units.add(key, stats)
        return units.rows({"object_classes": object_classes(context), "ignore_index": ignore})

    def flags(self, head: RidgeFit, rows: Rows) -> Mapping[str, Any]:
        return {"lambda": head.lam}
