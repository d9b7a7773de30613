"""One vector and one label per image, gathered from a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from vitbench.errors import DataError
from vitbench.tasks.base import TaskContext, TokenStream

T = TypeVar("T")


@dataclass(frozen=True)
class ImageFeatures:
    """x: n c float32; y: n int64; keys of the images, in the order of the stream."""

    x: Tensor
    y: Tensor
    keys: tuple[str, ...]


def image_vectors(
    stream: TokenStream, field: str, read: Callable[[Mapping[str, Any]], T]
) -> tuple[Tensor, list[T], tuple[str, ...]]:
    """Of a split: `field` b c, or the mean over the grid of b h w c, as n c; what `read` finds in each target; keys.

    Raises DataError for an empty split.
    """
    xs: list[Tensor] = []
    found: list[T] = []
    keys: list[str] = []
    for batch in stream:
        x = batch.tokens[field]
        xs.append(x.mean((1, 2)) if x.ndim == 4 else x)
        found += [read(t) for t in batch.targets]
        keys += batch.tokens.keys
    if not keys:
        raise DataError(f"the {stream.split} split is empty", "check the data set and --limit")
    return torch.cat(xs), found, tuple(keys)


def image_features(stream: TokenStream, field: str) -> ImageFeatures:
    """Vectors and labels of a split, see `image_vectors`."""
    x, labels, keys = image_vectors(stream, field, lambda target: int(target["label"]))
    return ImageFeatures(x, torch.tensor(labels, dtype=torch.int64), keys)


def label_count(train: ImageFeatures, context: TaskContext) -> int:
    """Number of image classes: as declared, or the largest train label plus one. A label outside names its image."""
    declared = len(context.dataset.label_classes)
    low, high = int(train.y.min()), int(train.y.max())
    if low < 0 or (declared and high >= declared):
        bad = int(((train.y < 0) | (train.y >= (declared or high + 1))).nonzero()[0, 0])
        raise DataError(
            f"image {train.keys[bad]!r}: label {int(train.y[bad])} is outside the {declared} classes",
            "name all label classes of the data set",
        )
    return declared or high + 1
