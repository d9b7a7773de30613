"""Linear segmentation as DINOv2 and DINOv3 train and test it (Oquab et al. 2023, arXiv 2304.07193; arXiv 2508.10104).

The loss, its quirks included, is mmsegmentation's: void pixels add nothing and still count in the mean; logits are stretched
over the crop although they cover its padding too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.segmentation import LINEAR_SEGMENTATION
from vitbench.catalogue.tasks.settings import several
from vitbench.catalogue.tasks.streaming import StreamSegmentationSettings
from vitbench.data.augment import SegmentationAugment
from vitbench.errors import DataError
from vitbench.heads.bank import HeadBank, Recipe, Schedule
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.pixel_loss import PixelLoss
from vitbench.heads.ridge import LinearHead
from vitbench.metrics.segmentation import class_counts, class_iou
from vitbench.records.rows import Rows
from vitbench.tasks.base import TaskContext
from vitbench.tasks.crops import Scaled, SegmentationCrop, Slides, SlideWindows, largest_class
from vitbench.tasks.live import Inputs, Kept, LiveImages, StreamTask
from vitbench.tasks.patch_labels import object_classes
from vitbench.tasks.segmentation_rows import image_confusion
from vitbench.tasks.training import BankTrainer, Step, training_inputs
from vitbench.tasks.units import UnitRows
from vitbench.tasks.upsample import LabelSampler
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import Tokens

_NO_TOKENS = dict.fromkeys(("n_tokens", "correct_tokens", "n_flagged", "correct_flagged"), 0.0)


@dataclass(frozen=True)
class ChosenHead:
    """A head, its recipe, and the held-out mIoU of every recipe (empty where nothing was chosen)."""

    head: LinearHead
    recipe: Recipe
    miou: Mapping[Recipe, float]


def recipes(learning_rates: str, weight_decays: str) -> list[Recipe]:
    """Every rate with every decay, as the settings list them."""
    return [Recipe(lr, wd) for lr, wd in product(several(learning_rates, float), several(weight_decays, float))]


class SlideSegmentation(StreamTask[StreamSegmentationSettings, HeadBank, ChosenHead]):
    """Batch norm and a 1x1 convolution, trained on augmented crops and tested on sliding windows."""

    card: ClassVar[TaskCard] = LINEAR_SEGMENTATION

    def training(self, train: LiveImages, context: TaskContext, start: int) -> Iterator[Inputs[Step]]:
        s, ignore = self.settings, context.dataset.ignore_index
        n_classes = live_classes(train, context)
        augment = SegmentationAugment(
            s.short_px, s.long_px, s.crop_px, cat_max_ratio=s.cat_max_ratio, hue=s.hue, antialias=s.antialias,
            ignore_index=ignore,
        )  # fmt: skip
        make = SegmentationCrop(augment, n_classes, train.patch_px)
        held = self._held(train)
        keys = [key for key in train.keys if key not in held]
        return training_inputs(train, keys, s, context.seed, start, make, n_classes, light=not s.antialias)

    def trainer(self, context: TaskContext, kept: Kept) -> BankTrainer[HeadBank]:
        s, tried, ignore = self.settings, self._tried(), context.dataset.ignore_index

        def build(x: Tensor, outputs: int) -> HeadBank:
            schedule = Schedule(s.schedule, s.iterations, s.warmup)
            return HeadBank(
                x.shape[-1], outputs, tried, schedule, norm=True, seed=context.seed, device=x.device, dropout=s.dropout
            )

        return BankTrainer(kept, lambda tokens: tokens[s.field], build, lambda y, _: self._loss(y, ignore))

    def _loss(self, labels: Tensor, ignore_index: int) -> Callable[[Tensor], Tensor]:
        loss = PixelLoss(labels, ignore_index)
        if self.settings.mean_over == "all":
            return loss
        share = int((labels != ignore_index).sum()) / labels.numel()
        return lambda logits: loss(logits) / max(share, 1 / labels.numel())

    def _tried(self) -> list[Recipe]:
        return recipes(self.settings.learning_rate, self.settings.weight_decay)

    def _held(self, train: LiveImages) -> frozenset[str]:
        """Images that choose among heads."""
        return holdout_keys(train.keys, self.settings.holdout) if len(self._tried()) > 1 else frozenset()

    def choosing(self, train: LiveImages, context: TaskContext) -> Iterator[Inputs[Slides]]:
        return self._slides(train, sorted(self._held(train)))

    def chooser(self, trained: HeadBank, context: TaskContext) -> _Chooser:
        return _Chooser(trained.heads(), self._tried(), self.settings.field, context)

    def testing(self, test: LiveImages, context: TaskContext) -> Iterator[Inputs[Slides]]:
        return self._slides(test, test.keys)

    def scorer(self, head: ChosenHead, context: TaskContext) -> _Scorer:
        return _Scorer(head.head, self.settings.field, context)

    def _slides(self, live: LiveImages, keys: Sequence[str]) -> Iterator[Inputs[Slides]]:
        """All windows of an image, a few to a batch."""
        s = self.settings
        make = SlideWindows(
            s.short_px, s.long_px, s.crop_px, s.stride_px, tuple(several(s.scales, float)), s.flip, s.antialias, live.patch_px
        )  # fmt: skip
        for batches, slides in live.prepared(((key,) for key in keys), make, light=not s.antialias):
            yield Inputs(batches, slides)

    def flags(self, head: ChosenHead, rows: Rows) -> Mapping[str, Any]:
        chosen = {"learning_rate": head.recipe.learning_rate, "weight_decay": head.recipe.weight_decay}
        return chosen if head.miou else {}


class _Chooser:
    """The head with the best mIoU over the images that choose; where there is one head, that one."""

    def __init__(self, heads: Sequence[LinearHead], tried: Sequence[Recipe], field: str, context: TaskContext) -> None:
        self._heads, self._tried, self._field, self._context = heads, tried, field, context
        self._classes = len(heads[0].bias)
        self._sums = [np.zeros((self._classes, self._classes), np.int64) for _ in heads]

    def see(self, tokens: Sequence[Tokens], inputs: Inputs[Slides]) -> None:
        about = inputs.about
        for j, head in enumerate(self._heads):
            predicted = slid_classes(head, [t[self._field] for t in tokens], inputs)
            self._sums[j] += image_confusion(about.key, predicted, about.label, self._classes, self._context)

    def result(self) -> ChosenHead:
        if len(self._heads) == 1:
            return ChosenHead(self._heads[0], self._tried[0], {})
        miou = {r: float(np.nanmean(class_iou(class_counts(m)))) for r, m in zip(self._tried, self._sums, strict=True)}
        best = max(self._tried, key=lambda r: miou[r])
        return ChosenHead(self._heads[list(self._tried).index(best)], best, miou)


class _Scorer:
    """Rows of one head."""

    def __init__(self, head: LinearHead, field: str, context: TaskContext) -> None:
        self._head, self._field, self._context = head, field, context
        self._units = UnitRows()

    def see(self, tokens: Sequence[Tokens], inputs: Inputs[Slides]) -> None:
        about = inputs.about
        predicted = slid_classes(self._head, [t[self._field] for t in tokens], inputs)
        matrix = image_confusion(about.key, predicted, about.label, len(self._head.bias), self._context)
        self._units.add(about.key, {**class_counts(matrix), **_NO_TOKENS})

    def result(self) -> Rows:
        ignore = self._context.dataset.ignore_index
        return self._units.rows({"object_classes": object_classes(self._context), "ignore_index": ignore})


def slid_classes(head: LinearHead, tokens: Sequence[Tensor], inputs: Inputs[Slides]) -> npt.NDArray[np.int64]:
    """Classes of the label's pixels from tokens (b h w c) of every window.

    Logits of windows that overlap are averaged and resized to the label; of several scales or mirror images, the class
    probabilities there are averaged.
    """
    about = inputs.about
    windows = _Windows(head, tokens, inputs)
    hw = about.label.shape[0], about.label.shape[1]
    if len(about.scales) == 1 and not about.scales[0].mirrored:
        return stretched_classes(windows.logits(about.scales[0]), hw)
    total = torch.zeros(len(head.bias), *hw, device=tokens[0].device)
    for scaled in about.scales:
        logits = windows.logits(scaled)
        shares = torch.nn.functional.interpolate(logits[None], hw, mode="bilinear", align_corners=False)[0].softmax(0)
        total += shares.flip(-1) if scaled.mirrored else shares
    return np.asarray(total.max(0).indices.cpu().numpy(), np.int64)


class _Windows:
    """The windows of one image, taken from their batches in order."""

    def __init__(self, head: LinearHead, tokens: Sequence[Tensor], inputs: Inputs[Slides]) -> None:
        self._head = head
        self._batches = iter(zip(tokens, (placed for placed, _ in inputs.batches), strict=True))

    def logits(self, scaled: Scaled) -> Tensor:
        """Logits k h w of the next scale: windows stretched to their size, the mean where they overlap."""
        total, counts, left = None, torch.zeros(scaled.hw), list(scaled.corners)
        while left:
            x, placed = next(self._batches)
            size = placed[0][1].content_hw
            part, left = left[: len(placed)], left[len(placed) :]
            logits = torch.nn.functional.interpolate(
                self._head(x).permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False
            )
            if total is None:
                total = torch.zeros(logits.shape[1], *scaled.hw, device=logits.device)
            for (r, c), window in zip(part, logits, strict=True):
                total[:, r : r + size[0], c : c + size[1]] += window
                counts[r : r + size[0], c : c + size[1]] += 1
        assert total is not None
        return total / counts.to(total.device)


def stretched_classes(logits: Tensor, hw: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Classes of logits (k h w) resized bilinearly to another size, a few rows at a time."""
    size = int(logits.shape[1]), int(logits.shape[2])
    geometry = Geometry(1, size, (Placement(size, size, size),))
    return LabelSampler(geometry, 0, hw, logits.device).classes(logits.permute(1, 2, 0))


def live_classes(train: LiveImages, context: TaskContext) -> int:
    """Number of classes: as the data set declares; else the largest train label plus one."""
    if context.dataset.classes:
        return len(context.dataset.classes)
    if not len(train):
        raise DataError("the train split is empty", "check the data set and --limit")
    ignore = context.dataset.ignore_index
    largest = max(train.prepared(((key, ignore) for key in train.keys), largest_class))
    if largest < 0:
        raise DataError(f"no pixel of the {train.split} split has a class", "check the masks")
    return largest + 1
