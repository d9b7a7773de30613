"""k-NN segmentation by cross-attention over a memory of labelled tokens (Balazevic et al. 2023, arXiv 2306.01667).

Follows open-hummingbird-eval in what it stores, samples and scores; its quirks are behind the setting `compat`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.segmentation import KNN_SEGMENTATION, HummingbirdSettings
from vitbench.errors import DataError
from vitbench.heads.knn import Neighbours, attention_vote, unit
from vitbench.metrics.matching import matched_classes
from vitbench.metrics.segmentation import class_counts
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.patch_labels import batch_soft_labels, class_count, object_classes, placed_labels
from vitbench.tasks.segmentation_rows import image_confusion, token_stats
from vitbench.tasks.units import UnitRows, image_rng

_VOID = 255
_QUERIES = 4096  # neighbours' labels gathered at once


@dataclass(frozen=True)
class Memory:
    """Unit tokens m c behind a search structure, and their soft labels m k."""

    neighbours: Neighbours
    labels: Tensor

    def soft_labels(self, queries: Tensor, k: int, temperature: float) -> Tensor:
        """queries n c (any scale) -> attention-weighted labels of the k nearest, n k."""
        out = []
        for i in range(0, len(queries), _QUERIES):
            similarities, indices = self.neighbours.search(unit(queries[i : i + _QUERIES]), k)
            out.append(attention_vote(similarities, self.labels[indices], temperature))
        return torch.cat(out)


def rare_first(labels: npt.NDArray[np.floating], count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Indices of `count` patches of one image (labels n k), those of classes rare in it preferred, in rising order.

    A patch's score is the number of patches of the image that share a class with it, summed over its classes, times a
    uniform random number; the smallest scores are kept.
    """
    if count >= len(labels):
        return np.arange(len(labels))
    present = labels > 0
    score = (present * present.sum(0)).sum(1) * rng.random(len(labels))
    return np.sort(np.argsort(score, kind="stable")[:count])


class KnnSegmentation(Task[HummingbirdSettings]):
    """Memory of train tokens with soft labels; every test token takes the attention-weighted labels of its neighbours."""

    card: ClassVar[TaskCard] = KNN_SEGMENTATION

    def fit(self, train: TokenStream, context: TaskContext) -> Memory:
        if not len(train):
            raise DataError("the train split is empty", "check the data set and --limit")
        n_classes = class_count(train, context) + self._void_classes
        size = self.settings.memory_size
        per_image = max(size // len(train), 1) if size else 0
        tokens, labels = [], []
        for batch in train:
            soft, share = self._labels(batch, n_classes, context)
            x = unit(batch.tokens[self.settings.field])
            for i, key in enumerate(batch.tokens.keys):
                kept = np.flatnonzero(share[i].ravel() > 0)
                cell_labels = soft[i].reshape(-1, n_classes)[kept]
                if per_image:
                    chosen = rare_first(cell_labels, per_image, image_rng(context.seed, key))
                    kept, cell_labels = kept[chosen], cell_labels[chosen]
                tokens.append(x[i].flatten(0, 1)[torch.from_numpy(kept).to(x.device)])
                labels.append(torch.from_numpy(cell_labels).to(x.device))
        memory = torch.cat(tokens)
        if not len(memory):
            raise DataError("no pixel of the train split has a class", "check the masks")
        return Memory(Neighbours(memory), torch.cat(labels))

    @property
    def _void_classes(self) -> int:
        """How many classes stand for void, behind all others."""
        return int(self.settings.compat and self.settings.void == "own")

    def _labels(self, batch: Batch, n_classes: int, context: TaskContext) -> tuple[Any, Any]:
        ignore = context.dataset.ignore_index
        if not self.settings.compat:
            return batch_soft_labels(batch, n_classes, ignore)
        # The reference files void under class 0, and remembers a class that is ignored where it scores.
        void, targets = n_classes - 1 if self._void_classes else 0, []
        for target in batch.targets:
            mask = np.asarray(target["segmentation"]).astype(np.int32, copy=False)
            targets.append({**target, "segmentation": np.where((mask == ignore) | (mask == _VOID), void, mask)})
        return batch_soft_labels(Batch(batch.tokens, targets), n_classes, ignore_index=-1)

    def measure(self, head: Memory, test: TokenStream, context: TaskContext) -> Rows:
        units, matrices = UnitRows(), []
        for batch in test:
            x = batch.tokens[self.settings.field]
            soft = head.soft_labels(x.flatten(0, 2), self.settings.k, self.settings.temperature)
            soft = soft.reshape(*x.shape[:3], -1)
            for i, key in enumerate(batch.tokens.keys):
                matrix = self._score(batch, i, soft[i], context)
                if self.settings.compat:
                    matrices.append(matrix)
                units.add(key, {**class_counts(matrix), **token_stats(batch, i, soft[i], context)})
        info: dict[str, Any] = {"object_classes": object_classes(context)}
        if not self.settings.compat:
            return units.rows(info)
        return _as_the_reference_scores(units.rows(info), matrices)

    def _score(self, batch: Batch, i: int, soft: Tensor, context: TaskContext) -> npt.NDArray[np.int64]:
        """Confusion at the size of the view, not of the label: so does the reference."""
        geometry = batch.tokens.geometry
        view_hw = geometry.placements[i].view_hw
        up = torch.nn.functional.interpolate(soft.permute(2, 0, 1)[None], view_hw, mode="bilinear", align_corners=False)
        predicted = up[0].max(0).indices.cpu().numpy()
        label = placed_labels(geometry, i, batch.targets[i]["segmentation"], context.dataset.ignore_index)
        extra = self._void_classes
        matrix = image_confusion(batch.tokens.keys[i], predicted, label, soft.shape[-1] - extra, context, extra)
        if extra and len(matrix) > soft.shape[-1]:
            raise DataError(
                f"image {batch.tokens.keys[i]!r} shows a class that no train image has",
                "name all classes of the data set",
            )
        return matrix

    def flags(self, head: Memory, rows: Rows) -> Mapping[str, Any]:
        return {"memory_tokens": len(head.neighbours)}


def _as_the_reference_scores(rows: Rows, matrices: list[npt.NDArray[np.int64]]) -> Rows:
    """Predictions renamed by the matching, which the bootstrap then holds fixed; absent classes count as zero."""
    size = max(len(m) for m in matrices)
    padded = [np.pad(m, (0, size - len(m))) for m in matrices]
    renamed = np.argsort(matched_classes(np.sum(padded, axis=0)))
    counts = [class_counts(m[:, renamed]) for m in padded]
    stats = {**rows.stats, **{name: np.stack([c[name] for c in counts]) for name in ("tp", "fp", "fn")}}
    return Rows(rows.unit_id, rows.group_id, stats, {**rows.info, "absent_classes": "zero"})
