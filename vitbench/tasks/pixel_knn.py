"""k-NN segmentation that copies pixels: every neighbour brings the labels of all pixels of its cell (CAPI's protocol).

Darcet et al. 2025, arXiv 2502.08769.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.segmentation import KNN_SEGMENTATION
from vitbench.catalogue.tasks.segmentation_knn import CapiKnnSettings
from vitbench.catalogue.tasks.settings import several
from vitbench.errors import DataError, UsageError
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.knn import Neighbours, unit
from vitbench.metrics.segmentation import class_counts, class_iou
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.patch_labels import cells, class_count, majority_labels, named_view, object_classes, placed_labels
from vitbench.tasks.segmentation_rows import image_confusion, token_stats
from vitbench.tasks.token_rows import ChannelScale
from vitbench.tasks.units import UnitRows, image_rng

Labels = npt.NDArray[np.integer]
_VOTES = 1 << 24  # votes counted at once


class CellMemory:
    """Tokens m c with the pixel labels of their cells m p*p (void is `n_classes`), searched by cosine or Euclidean distance."""

    def __init__(self, tokens: Tensor, pixels: Labels, distance: str) -> None:
        self.pixels, self._l2 = pixels, distance == "l2"
        # Squares about the mean are small; a mean of few digits takes none from the tokens, so that ties stay ties.
        self._centre = (tokens.mean(0) * 256).round() / 256
        if self._l2:  # the largest q.m - |m|^2 / 2 is the smallest |q - m|
            tokens = tokens - self._centre
            tokens = torch.cat([tokens, -0.5 * (tokens * tokens).sum(1, keepdim=True)], 1)
        self._neighbours = Neighbours(tokens if self._l2 else unit(tokens))

    def __len__(self) -> int:
        return len(self._neighbours)

    def nearest(self, queries: Tensor, k: int) -> npt.NDArray[np.int64]:
        """queries q c -> indices q k, nearest first."""
        if self._l2:
            queries = torch.cat([queries - self._centre, torch.ones_like(queries[:, :1])], 1)
        return np.asarray(self._neighbours.search(queries if self._l2 else unit(queries), k)[1].cpu().numpy())


def pixel_votes(pixels: Labels, n_labels: int) -> Labels:
    """Labels of the neighbours' cells q k p*p -> votes q p*p n_labels."""
    q, _, area = pixels.shape
    flat = pixels.astype(np.int64) + (np.arange(q * area) * n_labels).reshape(q, 1, area)
    return np.bincount(flat.ravel(), minlength=q * area * n_labels).reshape(q, area, n_labels)


@dataclass(frozen=True)
class PixelKnnHead:
    """The memory and how it is asked. `miou`: on the held-out images, by (distance, k); empty where nothing was chosen."""

    memory: CellMemory
    scale: ChannelScale | None
    n_classes: int
    k: int
    distance: str
    miou: Mapping[tuple[str, int], float]


class PixelKnnSegmentation(Task[CapiKnnSettings]):
    """Void majorities stay out of memory; void pixels of cells that are in it may be predicted, and are misses."""

    card: ClassVar[TaskCard] = KNN_SEGMENTATION

    def fit(self, train: TokenStream, context: TaskContext) -> PixelKnnHead:
        s = self.settings
        if not len(train):
            raise DataError("the train split is empty", "check the data set and --limit")
        tried = [(d, k) for d in several(s.distances, str) for k in several(s.ks, int)]
        if wrong := [d for d, k in tried if d not in ("cosine", "l2") or k < 1]:
            raise UsageError(f"distance {wrong[0]!r} or its k cannot be", "cosine or l2, and k of at least 1")
        n_classes = class_count(train, context)
        held = holdout_keys(train.keys, s.holdout) if len(tried) > 1 else frozenset()
        scale = ChannelScale.fit(train, s.field, frozenset(train.keys) - held) if s.standardise else None
        best, miou = tried[0], {}
        if held:
            miou = self._held_out(train, held, tried, scale, n_classes, context)
            best = max(tried, key=lambda t: miou[t])
        tokens, pixels = self._cells(train, frozenset(train.keys), scale, n_classes, context)
        return PixelKnnHead(CellMemory(tokens, pixels, best[0]), scale, n_classes, best[1], best[0], miou)

    def _cells(
        self, train: TokenStream, keys: frozenset[str], scale: ChannelScale | None, n_classes: int, context: TaskContext
    ) -> tuple[Tensor, Labels]:
        """Tokens m c and pixel labels m p*p of the cells of some images whose majority is a class."""
        tokens, pixels = [], []
        per_image = max(self.settings.memory_size // len(train), 1) if self.settings.memory_size else 0
        for batch in train:
            patch, ignore = batch.tokens.geometry.patch_px, context.dataset.ignore_index
            x = batch.tokens[self.settings.field]
            for i, key in enumerate(batch.tokens.keys):
                if key not in keys:
                    continue
                view = named_view(batch, i, n_classes, ignore)
                kept = np.flatnonzero(majority_labels(view, patch, n_classes, ignore).ravel() >= 0)
                if per_image and len(kept) > per_image:
                    kept = np.sort(image_rng(context.seed, key).choice(kept, per_image, replace=False))
                labels = cells(np.where(view == ignore, n_classes, view), patch).reshape(-1, patch * patch)[kept]
                pixels.append(labels.astype(np.uint8 if n_classes < 256 else np.uint16))
                chosen = x[i].flatten(0, 1)[torch.from_numpy(kept).to(x.device)]
                tokens.append(scale(chosen) if scale else chosen)
        memory = torch.cat(tokens)
        if not len(memory):
            raise DataError("no pixel of the train split has a class", "check the masks")
        return memory, np.concatenate(pixels)

    def _held_out(
        self, train: TokenStream, held: frozenset[str], tried: list[tuple[str, int]], scale: ChannelScale | None,
        n_classes: int, context: TaskContext,
    ) -> dict[tuple[str, int], float]:  # fmt: skip
        tokens, pixels = self._cells(train, frozenset(train.keys) - held, scale, n_classes, context)
        sums: dict[tuple[str, int], Any] = dict.fromkeys(tried, 0)
        for distance in dict.fromkeys(d for d, _ in tried):
            memory = CellMemory(tokens, pixels, distance)
            ks = [k for d, k in tried if d == distance]
            for batch in train:
                for i, key in enumerate(batch.tokens.keys):
                    if key in held:
                        for k, matrix in self._scored(batch, i, memory, ks, scale, n_classes, context).items():
                            sums[distance, k] = sums[distance, k] + matrix
        counts = {t: _counts(matrix, self.settings.compat) for t, matrix in sums.items()}
        return {t: float(np.nanmean(class_iou(c))) for t, c in counts.items()}

    def _scored(
        self, batch: Batch, i: int, memory: CellMemory, ks: list[int], scale: ChannelScale | None, n_classes: int,
        context: TaskContext, see: Callable[[Labels], None] = lambda _: None,
    ) -> dict[int, npt.NDArray[np.int64]]:  # fmt: skip
        """Confusion of image i for several k, void predicted being the last class; `see` is given the cells' votes h*w k+1."""
        geometry = batch.tokens.geometry
        (h, w), patch = geometry.grid_hw, geometry.patch_px
        x = batch.tokens[self.settings.field][i].flatten(0, 1)
        near = memory.nearest(scale(x) if scale else x, max(ks))
        label = placed_labels(geometry, i, batch.targets[i]["segmentation"], context.dataset.ignore_index)
        out = {}
        for k in ks:
            rows = max(_VOTES // (patch * patch * (n_classes + 1)), 1)
            winners, votes = [], []
            for start in range(0, len(near), rows):
                counted = pixel_votes(memory.pixels[near[start : start + rows, :k]], n_classes + 1)
                winners.append(counted.argmax(-1))
                votes.append(counted.sum(1))
            see(np.concatenate(votes))
            predicted = np.concatenate(winners).reshape(h, w, patch, patch).transpose(0, 2, 1, 3).reshape(h * patch, -1)
            out[k] = image_confusion(batch.tokens.keys[i], predicted, label, n_classes, context, extra=1)
        return out

    def measure(self, head: PixelKnnHead, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        for batch in test:
            h, w = batch.tokens.geometry.grid_hw
            for i, key in enumerate(batch.tokens.keys):
                seen: list[Labels] = []
                found = self._scored(batch, i, head.memory, [head.k], head.scale, head.n_classes, context, seen.append)
                scores = torch.from_numpy(seen[0][:, : head.n_classes].reshape(h, w, -1))
                if self.settings.compat and len(found[head.k]) > head.n_classes + 1:
                    raise DataError(
                        f"image {key!r} shows a class that no train image has", "name all classes of the data set"
                    )
                counts = _counts(found[head.k], self.settings.compat)
                units.add(key, {**counts, **token_stats(batch, i, scores, context)})
        return units.rows({"object_classes": object_classes(context), "ignore_index": context.dataset.ignore_index})

    def flags(self, head: PixelKnnHead, rows: Rows) -> Mapping[str, Any]:
        return {"k": head.k, "distance": head.distance, "memory_tokens": len(head.memory)}


def _counts(matrix: npt.NDArray[np.int64], compat: bool) -> dict[str, npt.NDArray[np.float64]]:
    """Counts per class of a confusion whose last class is void: a class of its own (compat), or none at all."""
    counts = class_counts(matrix)
    if compat:
        return counts
    return {name: np.delete(values, -1) for name, values in counts.items()}
