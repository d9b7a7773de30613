"""Attention as segmentation: the last block's map of CLS or registers against the object (Jiang et al. 2025, 2506.08010)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vitbench.catalogue.cards import TaskCard, TaskSettings
from vitbench.catalogue.fields import NO_ATTENTION
from vitbench.catalogue.suited import no_field
from vitbench.catalogue.tasks.attention import ATTENTION_SEGMENTATION
from vitbench.metrics.attention_masks import mask_statistics
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.saliency import ALL_OBJECTS, object_mask
from vitbench.tasks.units import UnitRows
from vitbench.tasks.upsample import LabelSampler


class AttentionSegmentation(Task[TaskSettings]):
    """No fit. Maps go to the annotation's size bilinearly; above their mean is object."""

    card: ClassVar[TaskCard] = ATTENTION_SEGMENTATION

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        units, maps = UnitRows(), 0
        for batch in test:
            found = batch.tokens[self.settings.field]
            if not found.shape[1]:
                raise no_field(self.settings.field, NO_ATTENTION)
            if self.settings.field == "cls_attention":
                found = found.mean(1, keepdim=True)
            maps = found.shape[1]
            for i, key in enumerate(batch.tokens.keys):
                units.add(key, _image(batch, i, found[i], context))
        return units.rows({"maps": maps})

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        first = {name: float(np.asarray(rows.stats[name]).sum(0)[0]) for name in ("tp", "fp", "fn", "tn")}
        mostly = first["tp"] + first["fn"] > ALL_OBJECTS * sum(first.values())
        marked = {"labels_are_mostly_objects": True} if mostly else {}
        return {"images_without_objects": int(rows.stats["n_without"].sum()), **marked}


def _image(batch: Batch, i: int, maps: Any, context: TaskContext) -> dict[str, npt.ArrayLike]:
    labels = np.asarray(batch.targets[i]["segmentation"])
    sampler = LabelSampler(batch.tokens.geometry, i, (labels.shape[0], labels.shape[1]), maps.device)
    scores = sampler.values(maps.permute(1, 2, 0)).cpu().numpy().astype(np.float64)
    shown = labels[sampler.rows, sampler.cols]
    counted = shown != context.dataset.ignore_index
    truth = object_mask(shown, context.dataset)[counted]
    return mask_statistics(scores[:, counted], truth, scores.mean((1, 2)))
