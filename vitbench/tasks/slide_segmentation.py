"""Linear segmentation as DINOv2 and DINOv3 train and test it (Oquab et al. 2023, arXiv 2304.07193; arXiv 2508.10104).

The loss, its quirks included, is mmsegmentation's: void pixels add nothing and still count in the mean; logits are stretched
over the crop although they cover its padding too.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from vitbench.data.augment import SegmentationAugment, fitted_hw, resized
from vitbench.errors import DataError
from vitbench.heads.bank import HeadBank, Recipe, Schedule
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.pixel_loss import pixel_loss
from vitbench.heads.ridge import LinearHead
from vitbench.metrics.segmentation import class_counts, class_iou
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext
from vitbench.tasks.live import LiveImages, Sample, centred, train_bank
from vitbench.tasks.patch_labels import largest_label, object_classes
from vitbench.tasks.segmentation_rows import image_confusion
from vitbench.tasks.units import UnitRows
from vitbench.tasks.upsample import LabelSampler
from vitbench.tokens.geometry import Geometry, Placement

_NO_TOKENS = dict.fromkeys(("n_tokens", "correct_tokens", "n_flagged", "correct_flagged"), 0.0)
_WINDOWS = 8  # windows in one forward


@dataclass(frozen=True)
class ChosenHead:
    """A head, its recipe, and the held-out mIoU of every recipe (empty where nothing was chosen)."""

    head: LinearHead
    recipe: Recipe
    miou: Mapping[Recipe, float]


def recipes(learning_rates: str, weight_decays: str) -> list[Recipe]:
    """Every rate with every decay, as the settings list them."""
    return [Recipe(lr, wd) for lr, wd in product(several(learning_rates, float), several(weight_decays, float))]


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows start on an axis; the last one is shifted inside."""
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - window), 0) for i in range(count)]


class SlideSegmentation(Task[StreamSegmentationSettings]):
    """Batch norm and a 1x1 convolution, trained on augmented crops and tested on sliding windows."""

    card: ClassVar[TaskCard] = LINEAR_SEGMENTATION

    def fit(self, train: LiveImages, context: TaskContext) -> ChosenHead:  # type: ignore[override]  # see `Protocol.streams`
        s, tried = self.settings, recipes(self.settings.learning_rate, self.settings.weight_decay)
        n_classes = live_classes(train, context)
        held = holdout_keys(train.keys, s.holdout) if len(tried) > 1 else frozenset()
        ignore = context.dataset.ignore_index
        augment = SegmentationAugment(
            s.short_px, s.long_px, s.crop_px, cat_max_ratio=s.cat_max_ratio, hue=s.hue, antialias=s.antialias,
            ignore_index=ignore,
        )  # fmt: skip

        def make(key: str, rng: np.random.Generator) -> Sample:
            sample = train.sample(key)
            crop, labels = augment(sample["image"], checked(sample, key, n_classes, ignore), rng)
            target = np.full((s.crop_px, s.crop_px), ignore, np.int64)
            target[: labels.shape[0], : labels.shape[1]] = labels
            return centred(crop, target.shape, train.patch_px), target

        def build(x: Tensor) -> HeadBank:
            schedule = Schedule(s.schedule, s.iterations, s.warmup)
            return HeadBank(
                x.shape[-1],
                n_classes,
                tried,
                schedule,
                norm=True,
                seed=context.seed,
                device=x.device,
                dropout=s.dropout,
            )

        keys = [key for key in train.keys if key not in held]
        bank = train_bank(train, keys, s, context.seed, make, build, lambda z, y, _: pixel_loss(z, y, ignore))
        heads = bank.heads()
        if len(heads) == 1:
            return ChosenHead(heads[0], tried[0], {})
        sums = [np.zeros((n_classes, n_classes), np.int64) for _ in heads]
        for key in sorted(held):
            sample = train.sample(key)
            for j, predicted in enumerate(self._predicted(train, key, sample, heads)):
                sums[j] += image_confusion(key, predicted, np.asarray(sample["segmentation"]), n_classes, context)
        miou = {r: float(np.nanmean(class_iou(class_counts(m)))) for r, m in zip(tried, sums, strict=True)}
        best = max(tried, key=lambda r: miou[r])
        return ChosenHead(heads[tried.index(best)], best, miou)

    def measure(self, head: ChosenHead, test: LiveImages, context: TaskContext) -> Rows:  # type: ignore[override]
        units = UnitRows()
        for key in test.keys:
            sample = test.sample(key)
            [predicted] = self._predicted(test, key, sample, [head.head])
            label = np.asarray(sample["segmentation"])
            matrix = image_confusion(key, predicted, label, len(head.head.bias), context)
            units.add(key, {**class_counts(matrix), **_NO_TOKENS})
        return units.rows({"object_classes": object_classes(context), "ignore_index": context.dataset.ignore_index})

    def _predicted(
        self, live: LiveImages, key: str, sample: Mapping[str, Any], heads: Any
    ) -> list[npt.NDArray[np.int64]]:
        """Classes of the label's pixels, one map per head; a window goes through the backbone once for all of them."""
        s, image = self.settings, sample["image"]
        hw = fitted_hw((image.shape[0], image.shape[1]), s.short_px, s.long_px)
        image = resized(image, hw, s.antialias)
        corners = [(y, x) for y in starts(hw[0], s.crop_px, s.stride_px) for x in starts(hw[1], s.crop_px, s.stride_px)]
        sums: list[Tensor] = []
        counts = torch.zeros(hw)
        for i in range(0, len(corners), _WINDOWS):
            part = corners[i : i + _WINDOWS]
            windows = [np.ascontiguousarray(image[y : y + s.crop_px, x : x + s.crop_px]) for y, x in part]
            size = windows[0].shape[0], windows[0].shape[1]
            tokens = live.tokens(
                [centred(w, size, live.patch_px) for w in windows], [f"{key}#{i + j}" for j in range(len(part))]
            )[s.field]
            if not sums:
                sums = [torch.zeros(len(h.bias), *hw, device=tokens.device) for h in heads]
            for total, head in zip(sums, heads, strict=True):
                logits = torch.nn.functional.interpolate(
                    head(tokens).permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False
                )
                for (y, x), window in zip(part, logits, strict=True):
                    total[:, y : y + size[0], x : x + size[1]] += window
            for y, x in part:
                counts[y : y + size[0], x : x + size[1]] += 1
        label = np.asarray(sample["segmentation"])
        return [stretched_classes(total / counts.to(total.device), (label.shape[0], label.shape[1])) for total in sums]

    def flags(self, head: ChosenHead, rows: Rows) -> Mapping[str, Any]:
        chosen = {"learning_rate": head.recipe.learning_rate, "weight_decay": head.recipe.weight_decay}
        return chosen if head.miou else {}


def stretched_classes(logits: Tensor, hw: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Classes of logits (k h w) resized bilinearly to another size, a few rows at a time."""
    size = int(logits.shape[1]), int(logits.shape[2])
    geometry = Geometry(1, size, (Placement(size, size, size),))
    return LabelSampler(geometry, 0, hw, logits.device).classes(logits.permute(1, 2, 0))


def checked(sample: Mapping[str, Any], key: str, n_classes: int, ignore_index: int) -> npt.NDArray[np.integer]:
    """The labels of a sample. Raises DataError, naming the image, for a label outside 0..k-1."""
    labels = np.asarray(sample["segmentation"])
    largest = largest_label(labels, ignore_index)
    if largest >= n_classes:
        raise DataError(
            f"image {key!r}: label {largest} is outside the {n_classes} classes", "name all classes of the data set"
        )
    return labels


def live_classes(train: LiveImages, context: TaskContext) -> int:
    """Number of classes: as the data set declares; else the largest train label plus one."""
    if context.dataset.classes:
        return len(context.dataset.classes)
    if not len(train):
        raise DataError("the train split is empty", "check the data set and --limit")
    ignore = context.dataset.ignore_index
    largest = max(largest_label(train.sample(key)["segmentation"], ignore) for key in train.keys)
    if largest < 0:
        raise DataError(f"no pixel of the {train.split} split has a class", "check the masks")
    return largest + 1
