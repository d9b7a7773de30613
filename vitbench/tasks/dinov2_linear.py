"""Linear classification as DINOv2 trains it: all heads at once on one augmented stream (Oquab et al. 2023, arXiv 2304.07193)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.fields import joined_fields
from vitbench.catalogue.tasks.classification import LINEAR_CLASSIFICATION
from vitbench.catalogue.tasks.image_dinov2 import Dinov2LinearSettings
from vitbench.catalogue.tasks.settings import several
from vitbench.catalogue.views import View
from vitbench.errors import DataError, UsageError
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.ridge import LinearHead
from vitbench.heads.sgd_bank import Part, SgdBank
from vitbench.metrics.classification import hits
from vitbench.records.rows import Rows
from vitbench.tasks.base import TaskContext
from vitbench.tasks.crops import LabelledCrop, LabelledView, label_of
from vitbench.tasks.live import Inputs, Kept, LiveImages, StreamTask
from vitbench.tasks.training import BankTrainer, Step, training_inputs
from vitbench.tasks.units import UnitRows
from vitbench.tokens.types import Tokens

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


@dataclass(frozen=True)
class Seen:
    """Images that are classified, and their labels."""

    keys: Sequence[str]
    labels: Sequence[int]


class Dinov2Linear(StreamTask[Dinov2LinearSettings, SgdBank, ImageHeads]):
    """Rates x numbers of blocks x averaged tokens, trained on the same crops; the best head is tested on centre crops."""

    card: ClassVar[TaskCard] = LINEAR_CLASSIFICATION

    def training(self, train: LiveImages, context: TaskContext, start: int) -> Iterator[Inputs[Step]]:
        s, held = self.settings, self._held(train)
        n_classes = live_label_count(train, context)
        size = max(s.image_px // train.patch_px, 1) * train.patch_px
        make = LabelledCrop(size, n_classes, train.patch_px)
        keys = [key for key in train.keys if key not in held]
        return training_inputs(train, keys, s, context.seed, start, make, n_classes)

    def trainer(self, context: TaskContext, kept: Kept) -> BankTrainer[SgdBank]:
        s = self.settings
        rates = [rate * s.batch / 256 for rate in several(s.learning_rate, float)]
        blocks, average = several(s.blocks, int), several(s.average, int)

        def build(x: Tensor, outputs: int) -> SgdBank:
            return SgdBank(
                parts(s.field, x.shape[1], blocks, average), outputs, rates, s.iterations, seed=context.seed, device=x.device,
                momentum=s.momentum, weight_decay=float(s.weight_decay),
            )  # fmt: skip

        return BankTrainer(kept, self._vectors, build, lambda y, _: lambda z: _loss(z, y))

    def _vectors(self, tokens: Tokens) -> Tensor:
        return image_vector(tokens, self.settings.field)

    def _held(self, train: LiveImages) -> frozenset[str]:
        """Train images that choose among the heads."""
        s = self.settings
        heads = len(several(s.learning_rate, float)) * len(several(s.blocks, int)) * len(several(s.average, int))
        return holdout_keys(train.keys, s.holdout) if s.choose_on == "holdout" and heads > 1 else frozenset()

    def choosing(self, train: LiveImages, context: TaskContext) -> Iterator[Inputs[Seen]]:
        return self._images(train, sorted(self._held(train)), live_label_count(train, context))

    def chooser(self, trained: SgdBank, context: TaskContext) -> _Chooser:
        return _Chooser(ImageHeads(trained.heads(), -1 if self.settings.choose_on == "test" else 0), self._vectors)

    def testing(self, test: LiveImages, context: TaskContext) -> Iterator[Inputs[Seen]]:
        return self._images(test, test.keys, None)

    def scorer(self, head: ImageHeads, context: TaskContext) -> _Scorer:
        return _Scorer(head, self._vectors)

    def _images(self, live: LiveImages, keys: Sequence[str], n_classes: int | None) -> Iterator[Inputs[Seen]]:
        """Unaugmented images, a few at a time."""
        make = LabelledView(View.parse(self.settings.view, self.settings.image_px), n_classes, live.patch_px)
        made = live.prepared(((key,) for key in keys), make, _IMAGES)
        for i in range(0, len(keys), _IMAGES):
            some, seen = keys[i : i + _IMAGES], list(islice(made, _IMAGES))
            yield Inputs([([placed for placed, _ in seen], some)], Seen(some, [label for _, label in seen]))

    def flags(self, head: ImageHeads, rows: Rows) -> Mapping[str, Any]:
        part, rate, _ = head.heads[head.chosen]
        oracle = {"selection": "oracle"} if self.settings.choose_on == "test" and len(head.heads) > 1 else {}
        return {"learning_rate": rate * 256 / self.settings.batch, "features": part.name, **oracle}


class _Chooser:
    """The head with most held-out images right, the first of equals; without such images it is left as it is."""

    def __init__(self, head: ImageHeads, vectors: Callable[[Tokens], Tensor]) -> None:
        self._head, self._vectors = head, vectors
        self._right = torch.zeros(len(head.heads), dtype=torch.int64)

    def see(self, tokens: Sequence[Tokens], inputs: Inputs[Seen]) -> None:
        x, labels = self._vectors(tokens[0]), torch.tensor(inputs.about.labels)
        for i in range(len(self._right)):
            self._right[i] += (self._head.logits(i, x).argmax(1).cpu() == labels).sum()

    def result(self) -> ImageHeads:
        if self._head.chosen >= 0:
            self._head.chosen = int(self._right.argmax())
        return self._head


class _Scorer:
    """Rows of the chosen head; where the test split chooses, of every head until it has."""

    def __init__(self, head: ImageHeads, vectors: Callable[[Tokens], Tensor]) -> None:
        self._head, self._vectors = head, vectors
        self._units = {i: UnitRows() for i in (range(len(head.heads)) if head.chosen < 0 else [head.chosen])}
        self._right = dict.fromkeys(self._units, 0.0)

    def see(self, tokens: Sequence[Tokens], inputs: Inputs[Seen]) -> None:
        x = self._vectors(tokens[0])
        for i, units in self._units.items():
            scores = self._head.logits(i, x).double().cpu().numpy()
            for key, row, label in zip(inputs.about.keys, scores, inputs.about.labels, strict=True):
                found = hits(row, label)
                self._right[i] += found["correct"]
                units.add(key, found)

    def result(self) -> Rows:
        self._head.chosen = max(self._right, key=self._right.__getitem__)
        return self._units[self._head.chosen].rows()


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits a b k, the mean over images summed over heads."""
    heads = logits.shape[0]
    return heads * torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(heads))


def live_label_count(train: LiveImages, context: TaskContext) -> int:
    """Number of image classes: as the data set declares; else the largest train label plus one."""
    if not len(train):
        raise DataError(f"the {train.split} split is empty", "check the data set and --limit")
    return len(context.dataset.label_classes) or max(train.prepared(((key,) for key in train.keys), label_of)) + 1
