"""Saliency: TokenCut's second eigenvector as a map of the object (Wang et al. 2022, arXiv 2202.11539)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from vitbench.catalogue.cards import DatasetCard, TaskCard
from vitbench.catalogue.tasks.discovery import SALIENCY, SaliencySettings
from vitbench.metrics.saliency import saliency_statistics
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.lost import seed_component
from vitbench.tasks.tokencut import cut
from vitbench.tasks.units import UnitRows
from vitbench.tasks.upsample import LabelSampler

ALL_OBJECTS = 0.9  # share of labelled pixels above which every mask that takes all is right


def object_mask(labels: npt.NDArray[np.integer], dataset: DatasetCard) -> npt.NDArray[np.bool_]:
    """Pixels of any object class, as the data set's card has them; where it names none, every class but 0."""
    if dataset.object_classes:
        return np.asarray(np.isin(labels, dataset.object_classes), bool)
    objects: npt.NDArray[np.bool_] = (labels != 0) & (labels != dataset.ignore_index)
    return objects


class Saliency(Task[SaliencySettings]):
    """No fit. Scores are compared in the size of the annotation; void pixels are left out."""

    card: ClassVar[TaskCard] = SALIENCY

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        for batch in test:
            for i, key in enumerate(batch.tokens.keys):
                units.add(key, self._image(batch, i, context.dataset))
        return units.rows()

    def _image(self, batch: Batch, i: int, dataset: DatasetCard) -> dict[str, npt.ArrayLike]:
        tokens = batch.tokens[self.settings.field][i]
        found = cut(tokens.flatten(0, 1), self.settings.tau)
        vector, mask = found.vector, found.foreground.reshape(tokens.shape[:2])
        if self.settings.component:
            mask = seed_component(mask, found.seed)
        scaled = (vector - vector.min()) / max(vector.max() - vector.min(), np.finfo(np.float64).tiny)
        both = np.stack([scaled.reshape(mask.shape), mask], -1).astype(np.float32)
        labels = np.asarray(batch.targets[i]["segmentation"])
        sampler = LabelSampler(batch.tokens.geometry, i, (labels.shape[0], labels.shape[1]))
        score, inside = np.zeros(labels.shape, np.float32), np.zeros(labels.shape, bool)
        planes = sampler.values(torch.from_numpy(both)).numpy()
        score[sampler.rows, sampler.cols], inside[sampler.rows, sampler.cols] = planes[0], planes[1] >= 0.5
        truth, counted = object_mask(labels, dataset), labels != dataset.ignore_index
        objects = float(truth[counted].mean()) if counted.any() else 0.0
        stats = saliency_statistics(score, inside, truth, counted)
        return {**stats, "alike": float(found.alike), "objects": objects}

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        marked = {"mostly_nothing_to_cut": True} if 2 * rows.stats["alike"].sum() > len(rows) else {}
        if rows.stats["objects"].sum() > ALL_OBJECTS * rows.stats["n"].sum():
            marked["labels_are_mostly_objects"] = True
        return {"images_without_objects": int(rows.stats["n_without"].sum()), **marked}
