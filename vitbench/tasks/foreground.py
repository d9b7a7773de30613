"""Where patches are most like CLS: on the objects (cosines against masks), or in the true box (one patch against boxes)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch.nn.functional import normalize

from vitbench.catalogue.cards import DatasetCard, TaskCard
from vitbench.catalogue.tasks.foreground import FOREGROUND_ALIGNMENT, POINT_IN_BOX, AlignmentSettings, PointSettings
from vitbench.metrics.foreground import alignment
from vitbench.metrics.pointing import pointing
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.patch_labels import cells, placed_labels
from vitbench.tasks.saliency import object_mask
from vitbench.tasks.units import UnitRows


def cosines_with_cls(batch: Batch, field: str) -> npt.NDArray[np.floating]:
    """Cosine of every patch with the image's CLS token: b h w."""
    x, cls = normalize(batch.tokens[field], dim=-1), normalize(batch.tokens["cls"], dim=-1)
    found: npt.NDArray[np.floating] = (x * cls[:, None, None]).sum(-1).cpu().numpy()
    return found


class ForegroundAlignment(Task[AlignmentSettings]):
    """No fit. Patches are foreground or background by the majority of their labelled pixels."""

    card: ClassVar[TaskCard] = FOREGROUND_ALIGNMENT

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        for batch in test:
            cosines = cosines_with_cls(batch, self.settings.field)
            for i, key in enumerate(batch.tokens.keys):
                share, known = _object_share(batch, i, context.dataset)
                units.add(key, alignment(cosines[i][known], share[known] >= self.settings.share))
        return units.rows()

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        left_out = int(rows.stats["n_without"].sum())
        marked = {"mostly_images_of_one_kind": True} if 2 * left_out > len(rows) else {}
        return {"images_of_one_kind": left_out, **marked}


def _object_share(batch: Batch, i: int, dataset: DatasetCard) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_]]:
    """Share of object pixels among the labelled ones of every patch of image i (h w), and the patches that have any."""
    ignore = dataset.ignore_index
    cut = cells(
        placed_labels(batch.tokens.geometry, i, batch.targets[i]["segmentation"], ignore),
        batch.tokens.geometry.patch_px,
    )
    labelled = (cut != ignore).sum(-1)
    objects = (object_mask(cut, dataset) & (cut != ignore)).sum(-1)
    return objects / np.maximum(labelled, 1), labelled > 0


class PointInBox(Task[PointSettings]):
    """No fit. The patch most like CLS hits if it is one of those that a true box touches."""

    card: ClassVar[TaskCard] = POINT_IN_BOX

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        for batch in test:
            cosines, valid = cosines_with_cls(batch, self.settings.field), batch.tokens.geometry.valid()
            for i, key in enumerate(batch.tokens.keys):
                boxes = np.asarray(batch.targets[i]["boxes"], np.float32).reshape(-1, 4)
                units.add(key, pointing(cosines[i], touched_cells(batch, i, boxes), valid[i], len(boxes)))
        return units.rows()

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        return {"images_without_boxes_in_view": int(rows.stats["n_without"].sum())}


def touched_cells(batch: Batch, i: int, boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Patches of image i that boxes (source pixels, n 4) touch, from floor(min / patch) to floor(max / patch): h w."""
    geometry = batch.tokens.geometry
    h, w = geometry.grid_hw
    found = np.zeros((h, w), bool)
    ends = geometry.to_cells(i, boxes.reshape(-1, 2)).reshape(-1, 2, 2)
    for corners in ends:
        (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
        rows = slice(max(math.floor(y0), 0), max(math.floor(y1) + 1, 0))
        found[rows, max(math.floor(x0), 0) : max(math.floor(x1) + 1, 0)] = True
    return found
