"""Unsupervised segmentation: k-means over the tokens of the test images (Ziegler and Asano 2022, arXiv 2204.13101)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.clusters import CLUSTER_SEGMENTATION, ClusterSettings
from vitbench.errors import DataError, UsageError
from vitbench.heads.kmeans import Projection, kmeans
from vitbench.heads.moments import Moments
from vitbench.metrics.matching import majority_classes, matched_classes
from vitbench.metrics.segmentation import class_counts
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.leopart_segmentation import square_labels
from vitbench.tasks.patch_labels import class_count, object_classes
from vitbench.tasks.segmentation_rows import image_confusion, token_stats
from vitbench.tasks.units import UnitRows

Ints = npt.NDArray[np.int64]


class ClusterSegmentation(Task[ClusterSettings]):
    """Clusters and their names come from the images that are scored: fit and score share them, as in the source."""

    card: ClassVar[TaskCard] = CLUSTER_SEGMENTATION

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        s = self.settings
        if s.clusters < 0:
            raise UsageError(f"clusters={s.clusters}", "0 for one per class, or a positive number")
        if not len(test):
            raise DataError("the split to measure on is empty", "check the data set and --limit")
        n_classes = class_count(test, context)
        maps = self._maps(test, s.clusters or n_classes, context)
        total = np.zeros((n_classes, s.clusters or n_classes), np.int64)
        for batch in test:
            for i, key in enumerate(batch.tokens.keys):
                total += self._confusion(batch, i, maps[key], total.shape, context)
        names = majority_classes(total) if s.clusters else matched_classes(total)
        units = UnitRows()
        for batch in test:
            for i, key in enumerate(batch.tokens.keys):
                found = self._confusion(batch, i, maps[key], total.shape, context)
                matrix = np.zeros((n_classes, n_classes), np.int64)
                np.add.at(matrix.T, names, found.T)
                scores = torch.nn.functional.one_hot(torch.from_numpy(names[maps[key]]), n_classes).float()
                units.add(key, {**class_counts(matrix), **token_stats(batch, i, scores, context)})
        return units.rows({"object_classes": object_classes(context), "ignore_index": context.dataset.ignore_index})

    def _maps(self, test: TokenStream, clusters: int, context: TaskContext) -> dict[str, Ints]:
        """Cluster of every token, by sample: h w."""
        s, moments = self.settings, None
        for batch in test:
            x = batch.tokens[s.field].flatten(0, 2)
            moments = moments or Moments.empty(x.mean(0), 0)
            moments.add(x, x[:, :0])
        assert moments is not None
        projection = Projection.fit(moments, s.components)
        points, shapes = [], []
        for batch in test:
            x = batch.tokens[s.field]
            points.append(projection(x.flatten(0, 2)).cpu().numpy())
            shapes += [(key, x.shape[1:3]) for key in batch.tokens.keys]
        found = kmeans(np.concatenate(points), clusters, s.iterations, s.restarts, context.seed)
        ends = np.cumsum([h * w for _, (h, w) in shapes])[:-1]
        return {key: part.reshape(hw) for (key, hw), part in zip(shapes, np.split(found, ends), strict=True)}

    def _confusion(self, batch: Batch, i: int, clusters: Ints, shape: tuple[int, int], context: TaskContext) -> Ints:
        """Pixels of the square by (true class, cluster)."""
        side, size = self.settings.score_px, max(shape)
        h, w = clusters.shape
        at = np.arange(side) + 0.5
        predicted = clusters[(at * h / side).astype(np.int64)[:, None], (at * w / side).astype(np.int64)[None]]
        label = square_labels(batch, i, side)
        matrix = image_confusion(batch.tokens.keys[i], predicted, label, size, context)
        if matrix[shape[0] :].any():
            raise DataError(
                f"image {batch.tokens.keys[i]!r}: a label is outside the {shape[0]} classes",
                "name all classes of the data set",
            )
        return matrix[: shape[0], : shape[1]]

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        return {"fitted_on_evaluation_data": True}
