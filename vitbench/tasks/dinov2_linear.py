"""Linear classification as DINOv2 trains it: all heads at once on one augmented stream (Oquab et al. 2023, arXiv 2304.07193)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.fields import joined_fields
from vitbench.catalogue.tasks.classification import LINEAR_CLASSIFICATION
from vitbench.catalogue.tasks.image_dinov2 import Dinov2LinearSettings
from vitbench.catalogue.tasks.settings import several
from vitbench.catalogue.views import View
from vitbench.data.random_crop import random_resized_crop
from vitbench.errors import DataError, UsageError
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.ridge import LinearHead
from vitbench.heads.sgd_bank import Part, SgdBank
from vitbench.metrics.classification import hits
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext
from vitbench.tasks.live import LiveImages, Sample, centred, train_bank
from vitbench.tasks.units import UnitRows
from vitbench.tokens.types import Tokens
from vitbench.tokens.views import place

_IMAGES = 32  # in one forward of a test


@dataclass
class ImageHeads:
    """Trained heads with the part of the features they read and their rate; `chosen`: which one is tested (-1: not yet)."""

    heads: Sequence[tuple[Part, float, LinearHead]]
    chosen: int = -1

    def logits(self, i: int, x: Tensor) -> Tensor:
        """Features n c -> n k of head i."""
        part, _, head = self.heads[i]
        return head(x[:, part.start : part.stop])


def image_vector(tokens: Tokens, field: str) -> Tensor:
    """The parts of a joined field beside each other (b c), grids averaged."""
    values = [tokens[part] for part in joined_fields(field)]
    return torch.cat([v.mean((1, 2)) if v.ndim == 4 else v for v in values], 1)


def parts(field: str, width: int, blocks: Sequence[int], average: Sequence[int]) -> list[Part]:
    """What heads read of features of `width` channels: the last 1.. CLS tokens, with the average or not.

    Raises UsageError where the field is not CLS tokens followed by one grid, or has fewer of them than asked for.
    """
    names = joined_fields(field)
    if len(names) < 2 or not all(n.startswith("cls") for n in names[:-1]) or names[-1].startswith("cls"):
        raise UsageError(f"field {field!r}", "write CLS tokens first, the averaged field last: cls_normed_-2+cls+patch")
    step, count = width // len(names), len(names) - 1
    if min(blocks) < 1 or max(blocks) > count or not set(average) <= {0, 1}:
        raise UsageError(f"blocks={blocks}, average={average}", f"blocks are 1 to {count}, average is 0, 1 or 0/1")
    named = {0: "", 1: "+average"}
    return [Part(f"cls x {n}{named[a]}", (count - n) * step, (count + a) * step) for n in blocks for a in average]


class Dinov2Linear(Task[Dinov2LinearSettings]):
    """Rates x numbers of blocks x averaged tokens, trained on the same crops; the best head is tested on centre crops."""

    card: ClassVar[TaskCard] = LINEAR_CLASSIFICATION

    def fit(self, train: LiveImages, context: TaskContext) -> ImageHeads:  # type: ignore[override]  # see `Protocol.streams`
        s = self.settings
        n_classes = live_label_count(train, context)
        rates = [rate * s.batch / 256 for rate in several(s.learning_rate, float)]
        blocks, average = several(s.blocks, int), several(s.average, int)
        size = max(s.image_px // train.patch_px, 1) * train.patch_px
        choosing = s.choose_on == "holdout" and len(rates) * len(blocks) * len(average) > 1
        held = holdout_keys(train.keys, s.holdout) if choosing else frozenset()

        def make(key: str, rng: np.random.Generator) -> Sample:
            sample = train.sample(key)
            crop = random_resized_crop(np.asarray(sample["image"]), size, rng)
            return centred(crop, (size, size), train.patch_px), np.array(_label(sample, key, n_classes))

        def build(x: Tensor) -> SgdBank:
            read = parts(s.field, x.shape[1], blocks, average)
            decay = float(s.weight_decay)
            return SgdBank(
                read, n_classes, rates, s.iterations, seed=context.seed, device=x.device, momentum=s.momentum,
                weight_decay=decay,
            )  # fmt: skip

        keys = [key for key in train.keys if key not in held]
        bank = train_bank(
            train, keys, s, context.seed, make, build, lambda z, y, _: _loss(z, y),
            lambda tokens: image_vector(tokens, s.field),
        )  # fmt: skip
        head = ImageHeads(bank.heads(), -1 if s.choose_on == "test" else 0)
        if held:
            right = torch.zeros(len(head.heads), dtype=torch.int64)
            for batch, x in self._vectors(train, sorted(held)):
                labels = torch.tensor([_label(train.sample(key), key, n_classes) for key in batch])
                right += self._right(head, x, labels)
            head.chosen = int(right.argmax())
        return head

    def _vectors(self, live: LiveImages, keys: Sequence[str]) -> Iterator[tuple[Sequence[str], Tensor]]:
        """Features (b c) of unaugmented images, a few at a time."""
        view = View.parse(self.settings.view, self.settings.image_px)
        for i in range(0, len(keys), _IMAGES):
            batch = keys[i : i + _IMAGES]
            placed = [place(np.asarray(live.sample(key)["image"]), view, live.patch_px)[0] for key in batch]
            yield batch, image_vector(live.tokens(placed, batch), self.settings.field)

    @staticmethod
    def _right(head: ImageHeads, x: Tensor, labels: Tensor) -> Tensor:
        """How many images each head has right."""
        found = [int((head.logits(i, x).argmax(1).cpu() == labels).sum()) for i in range(len(head.heads))]
        return torch.tensor(found)

    def measure(self, head: ImageHeads, test: LiveImages, context: TaskContext) -> Rows:  # type: ignore[override]
        units = UnitRows()
        labels = [int(test.sample(key)["label"]) for key in test.keys]
        x = torch.cat([part for _, part in self._vectors(test, test.keys)])
        if head.chosen < 0:
            head.chosen = int(self._right(head, x, torch.tensor(labels)).argmax())
        scores = head.logits(head.chosen, x).double().cpu().numpy()
        for key, row, label in zip(test.keys, scores, labels, strict=True):
            units.add(key, hits(row, label))
        return units.rows()

    def flags(self, head: ImageHeads, rows: Rows) -> Mapping[str, Any]:
        part, rate, _ = head.heads[head.chosen]
        oracle = {"selection": "oracle"} if self.settings.choose_on == "test" and len(head.heads) > 1 else {}
        return {"learning_rate": rate * 256 / self.settings.batch, "features": part.name, **oracle}


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits a b k, the mean over images summed over heads."""
    heads = logits.shape[0]
    return heads * torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(heads))


def _label(sample: Mapping[str, Any], key: str, n_classes: int) -> int:
    label = int(sample["label"])
    if not 0 <= label < n_classes:
        raise DataError(
            f"image {key!r}: label {label} is outside the {n_classes} classes", "name all label classes of the data set"
        )
    return label


def live_label_count(train: LiveImages, context: TaskContext) -> int:
    """Number of image classes: as the data set declares; else the largest train label plus one."""
    if not len(train):
        raise DataError(f"the {train.split} split is empty", "check the data set and --limit")
    return len(context.dataset.label_classes) or max(int(train.sample(key)["label"]) for key in train.keys) + 1
