"""What streaming tasks make of a sample: network inputs beside their targets. Sent to where images are decoded.

No torch, so that processes that decode stay light. All that is random comes from the seeds that are given, so it is the same
whoever makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.catalogue.views import View
from vitbench.data.augment import DepthAugment, SegmentationAugment, fitted_hw, resized
from vitbench.data.random_crop import random_resized_crop
from vitbench.errors import DataError
from vitbench.tokens.geometry import Placement
from vitbench.tokens.placing import Pixels, place

Placed = tuple[Pixels, Placement]
Sample = tuple[Placed, npt.NDArray[Any]]  # a network input, and its target as it is compared with the logits
_WINDOWS = 8  # windows in one forward


def centred(image: Pixels, size_hw: tuple[int, int], patch_px: int) -> Placed:
    """An image as it stands at the top left of a view of `size_hw`, the view padded on all sides to a multiple of the patch.

    Padding is zero after normalisation; where it is odd the extra pixel is at the bottom and right.
    """
    padded = tuple(-(-n // patch_px) * patch_px for n in size_hw)
    at = (padded[0] - size_hw[0]) // 2, (padded[1] - size_hw[1]) // 2
    hw = image.shape[0], image.shape[1]
    offset = -float(at[0]), -float(at[1])
    return image, Placement(hw, (padded[0], padded[1]), hw, (1.0, 1.0), offset, content_at=at)


# -- training ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SegmentationCrop:
    """An augmented crop, and its labels padded to the size of all crops. Raises DataError for a label outside 0..k-1."""

    augment: SegmentationAugment
    n_classes: int
    patch_px: int

    def __call__(self, sample: Mapping[str, Any], key: str, seeds: Sequence[int]) -> Sample:
        side, ignore = self.augment.crop_px, self.augment.ignore_index
        labels = checked(sample, key, self.n_classes, ignore)
        crop, cut = self.augment(sample["image"], labels, np.random.default_rng(seeds))
        target = np.full((side, side), ignore, np.result_type(cut.dtype, np.min_scalar_type(ignore)))
        target[: cut.shape[0], : cut.shape[1]] = cut
        return centred(crop, (side, side), self.patch_px), target


@dataclass(frozen=True)
class DepthCrop:
    """An augmented crop, and its depth in metres."""

    augment: DepthAugment
    patch_px: int

    def __call__(self, sample: Mapping[str, Any], _key: str, seeds: Sequence[int]) -> Sample:
        depth = np.asarray(sample["depth"], np.float32)
        crop, cut = self.augment(sample["image"], depth, np.random.default_rng(seeds))
        return centred(crop, (crop.shape[0], crop.shape[1]), self.patch_px), cut


@dataclass(frozen=True)
class LabelledCrop:
    """A random part of an image as a square, and the image's label."""

    size_px: int
    n_classes: int
    patch_px: int

    def __call__(self, sample: Mapping[str, Any], key: str, seeds: Sequence[int]) -> Sample:
        label = labelled(sample, key, self.n_classes)
        crop = random_resized_crop(np.asarray(sample["image"]), self.size_px, np.random.default_rng(seeds))
        return centred(crop, (self.size_px, self.size_px), self.patch_px), np.array(label)


# -- tests -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaled:
    """An image as it is tested at one scale: its size there and the corners of its windows; `mirrored` left to right."""

    hw: tuple[int, int]
    corners: tuple[tuple[int, int], ...]
    mirrored: bool


@dataclass(frozen=True)
class Slides:
    """One image that is tested: its label, and every scale in the order of its windows."""

    key: str
    label: npt.NDArray[np.integer]
    scales: tuple[Scaled, ...]


Batches = list[tuple[list[Placed], list[str]]]  # network inputs with their keys, of one padded size each


def starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows start on an axis; the last one is shifted inside."""
    count = max(length - window + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - window), 0) for i in range(count)]


@dataclass(frozen=True)
class SlideWindows:
    """All windows of an image at every scale (and mirrored), a few to a batch."""

    short_px: int
    long_px: int | None
    crop_px: int
    stride_px: int
    scales: tuple[float, ...]
    flip: bool
    antialias: bool
    patch_px: int

    def __call__(self, sample: Mapping[str, Any], key: str) -> tuple[Batches, Slides]:
        image = sample["image"]
        batches: Batches = []
        scales: list[Scaled] = []
        count = 0
        for factor, mirrored in product(self.scales, (False, True) if self.flip else (False,)):
            long_px = None if self.long_px is None else int(self.long_px * factor)
            hw = fitted_hw((image.shape[0], image.shape[1]), int(self.short_px * factor), long_px)
            seen = resized(image, hw, self.antialias)
            seen = seen[:, ::-1] if mirrored else seen
            rows, columns = (starts(n, self.crop_px, self.stride_px) for n in hw)
            corners = tuple(product(rows, columns))
            for i in range(0, len(corners), _WINDOWS):
                windows = [self._window(seen, at) for at in corners[i : i + _WINDOWS]]
                batches.append((windows, [f"{key}#{count + j}" for j in range(len(windows))]))
                count += len(windows)
            scales.append(Scaled(hw, corners, mirrored))
        return batches, Slides(key, np.asarray(sample["segmentation"]), tuple(scales))

    def _window(self, seen: Pixels, at: tuple[int, int]) -> Placed:
        y, x = at
        window = np.ascontiguousarray(seen[y : y + self.crop_px, x : x + self.crop_px])
        return centred(window, (window.shape[0], window.shape[1]), self.patch_px)


@dataclass(frozen=True)
class Scene:
    """One image whose depth is predicted."""

    key: str
    depth: npt.NDArray[np.float32]


@dataclass(frozen=True)
class SceneViews:
    """An image as it is, and its mirror image where `flip` asks for it."""

    flip: bool
    patch_px: int

    def __call__(self, sample: Mapping[str, Any], key: str) -> tuple[Batches, Scene]:
        image = sample["image"]
        views = [image, np.ascontiguousarray(image[:, ::-1])] if self.flip else [image]
        placed = [centred(v, (image.shape[0], image.shape[1]), self.patch_px) for v in views]
        names = [f"{key}#{i}" for i in range(len(views))]
        return [(placed, names)], Scene(key, np.asarray(sample["depth"], np.float32))


@dataclass(frozen=True)
class LabelledView:
    """An image in a view, and its label; `n_classes`: None where any label will do."""

    view: View
    n_classes: int | None
    patch_px: int

    def __call__(self, sample: Mapping[str, Any], key: str) -> tuple[Placed, int]:
        label = int(sample["label"]) if self.n_classes is None else labelled(sample, key, self.n_classes)
        return place(np.asarray(sample["image"]), self.view, self.patch_px)[0], label


# -- targets -----------------------------------------------------------------------------------------------------------


def largest_class(sample: Mapping[str, Any], _key: str, ignore_index: int) -> int:
    """The largest class of a sample's pixels; -1 where all are void."""
    labels = np.asarray(sample["segmentation"])
    valid = labels[labels != ignore_index]
    return int(valid.max()) if valid.size else -1


def checked(sample: Mapping[str, Any], key: str, n_classes: int, ignore_index: int) -> npt.NDArray[np.integer]:
    """The labels of a sample. Raises DataError, naming the image, for a label outside 0..k-1."""
    labels = np.asarray(sample["segmentation"])
    valid = labels[labels != ignore_index]
    outside = [int(v) for v in (valid.max(initial=0), valid.min(initial=0)) if not 0 <= v < n_classes]
    if outside:
        raise DataError(
            f"image {key!r}: label {outside[0]} is outside the {n_classes} classes", "name all classes of the data set"
        )
    return labels


def labelled(sample: Mapping[str, Any], key: str, n_classes: int) -> int:
    """The class of an image. Raises DataError, naming it, for one outside 0..k-1."""
    label = int(sample["label"])
    if not 0 <= label < n_classes:
        raise DataError(
            f"image {key!r}: label {label} is outside the {n_classes} classes", "name all label classes of the data set"
        )
    return label


def label_of(sample: Mapping[str, Any], _key: str) -> int:
    """The class of an image as it is stored."""
    return int(sample["label"])
