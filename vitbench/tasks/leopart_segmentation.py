"""The linear probe of Leopart (Ziegler and Asano 2022, arXiv 2204.13101): SGD on cached tokens, scored on a 100x100 square."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.segmentation import LINEAR_SEGMENTATION
from vitbench.catalogue.tasks.segmentation_linear import LeopartLinearSettings
from vitbench.errors import DataError
from vitbench.heads.ridge import LinearHead
from vitbench.heads.sgd_linear import fit_sgd_linear, upsampled_logits
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.patch_labels import class_count, largest_label, object_classes
from vitbench.tasks.segmentation_rows import image_stats
from vitbench.tasks.units import UnitRows

WINDOW = 2048  # images among which the next one is drawn


def square_labels(batch: Batch, i: int, side: int) -> npt.NDArray[np.int64]:
    """Labels of image i at side x side, nearest neighbour, of what the view shows of it."""
    p = batch.tokens.geometry.placements[i]
    label = np.asarray(batch.targets[i]["segmentation"])
    at = (np.arange(side) + 0.5) / side
    rows = (at * p.content_hw[0] * p.scale[0] + p.offset[0]) / p.source_hw[0] * label.shape[0]
    cols = (at * p.content_hw[1] * p.scale[1] + p.offset[1]) / p.source_hw[1] * label.shape[1]
    r = np.clip(rows.astype(np.int64), 0, label.shape[0] - 1)
    c = np.clip(cols.astype(np.int64), 0, label.shape[1] - 1)
    found: npt.NDArray[np.int64] = label[r[:, None], c[None, :]].astype(np.int64)
    return found[:, ::-1].copy() if p.flipped else found


class LeopartSegmentation(Task[LeopartLinearSettings]):
    """Tokens of square views; labels and logits meet at `score_px`."""

    card: ClassVar[TaskCard] = LINEAR_SEGMENTATION

    def fit(self, train: TokenStream, context: TaskContext) -> LinearHead:
        s = self.settings
        if not len(train):
            raise DataError("the train split is empty", "check the data set and --limit")
        n_classes = class_count(train, context)
        first = next(iter(train)).tokens[s.field]
        return fit_sgd_linear(
            lambda epoch: self._batches(train, n_classes, epoch, context), first.shape[-1], n_classes,
            learning_rate=s.learning_rate, momentum=s.momentum, weight_decay=s.weight_decay, epochs=s.epochs,
            drop_epoch=s.drop_epoch, ignore_index=context.dataset.ignore_index, seed=context.seed, device=first.device,
        )  # fmt: skip

    def _batches(
        self, train: TokenStream, n_classes: int, epoch: int, context: TaskContext
    ) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng([context.seed, epoch])
        held: list[tuple[Tensor, Tensor]] = []
        chosen: list[tuple[Tensor, Tensor]] = []
        for sample in self._samples(train, n_classes, context):
            held.append(sample)
            if len(held) > WINDOW:
                chosen.append(held.pop(int(rng.integers(len(held)))))
            if len(chosen) == self.settings.batch:
                yield _stacked(chosen)
                chosen = []
        for i in rng.permutation(len(held)):
            chosen.append(held[i])
            if len(chosen) == self.settings.batch:
                yield _stacked(chosen)
                chosen = []
        if chosen:
            yield _stacked(chosen)

    def _samples(self, train: TokenStream, n_classes: int, context: TaskContext) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in train:
            x = batch.tokens[self.settings.field]
            for i, key in enumerate(batch.tokens.keys):
                labels = square_labels(batch, i, self.settings.score_px)
                largest = largest_label(labels, context.dataset.ignore_index)
                if largest >= n_classes:
                    raise DataError(
                        f"image {key!r}: label {largest} is outside the {n_classes} classes",
                        "name all classes of the data set",
                    )
                yield x[i], torch.from_numpy(labels).to(x.device)

    def measure(self, head: LinearHead, test: TokenStream, context: TaskContext) -> Rows:
        units, side = UnitRows(), self.settings.score_px
        for batch in test:
            x = batch.tokens[self.settings.field]
            scores = head(x)
            for i, key in enumerate(batch.tokens.keys):
                logits = upsampled_logits(x[i : i + 1], head.weight, head.bias, (side, side))
                predicted = logits[0].max(0).indices.cpu().numpy()
                label = square_labels(batch, i, side)
                units.add(key, image_stats(batch, i, predicted, label, scores[i], context))
        return units.rows({"object_classes": object_classes(context), "ignore_index": context.dataset.ignore_index})


def _stacked(samples: list[tuple[Tensor, Any]]) -> tuple[Tensor, Tensor]:
    return torch.stack([x for x, _ in samples]), torch.stack([y for _, y in samples])
