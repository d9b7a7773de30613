"""Pixel targets as patch targets: soft class labels and mean log depth per cell, with the share of pixels that count."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.errors import DataError
from vitbench.tasks.base import Batch, TaskContext, TokenStream
from vitbench.tokens.geometry import Geometry

Floats = npt.NDArray[np.float32]


def class_count(stream: TokenStream, context: TaskContext) -> int:
    """Number of classes: as the data set declares; else the largest label of the stream plus one (a pass over it)."""
    if context.dataset.classes:
        return len(context.dataset.classes)
    ignore = context.dataset.ignore_index
    largest = -1
    for batch in stream:
        for target in batch.targets:
            largest = max(largest, largest_label(target["segmentation"], ignore))
    if largest < 0:
        raise DataError(f"no pixel of the {stream.split} split has a class", "check the masks")
    return largest + 1


def largest_label(labels: Any, ignore_index: int) -> int:
    """The largest class of a label map; -1 where all is void."""
    values = np.asarray(labels).astype(np.int64, copy=False)
    return int(values[values != ignore_index].max(initial=-1))


def cells(view: npt.NDArray[Any], patch_px: int) -> npt.NDArray[Any]:
    """A map of the view (h*p w*p) cut into cells: h w p*p."""
    h, w = view.shape[0] // patch_px, view.shape[1] // patch_px
    return view.reshape(h, patch_px, w, patch_px).transpose(0, 2, 1, 3).reshape(h, w, patch_px * patch_px)


def soft_labels(
    view: npt.NDArray[np.integer], patch_px: int, n_classes: int, ignore_index: int = 255
) -> tuple[Floats, Floats]:
    """Class histogram of every cell over its valid pixels (h w k, sums to one or is zero), and the valid share (h w).

    view: labels of the view's pixels (h*p w*p). Raises DataError for labels outside 0..k-1 that are not `ignore_index`.
    """
    cut = cells(view, patch_px).astype(np.int64)
    h, w, area = cut.shape
    void = cut == ignore_index
    cut[void] = 0
    if cut.size and not (int(cut.min()) >= 0 and int(cut.max()) < n_classes):
        raise DataError(
            f"label {int(cut.max())} is outside the {n_classes} classes", "name all classes of the data set"
        )
    cut[void] = n_classes
    flat = cut + (np.arange(h * w) * (n_classes + 1)).reshape(h, w, 1)
    histogram = np.bincount(flat.ravel(), minlength=h * w * (n_classes + 1)).reshape(h, w, n_classes + 1)
    counts = histogram[..., :n_classes].astype(np.float32)
    valid = counts.sum(-1)
    return counts / np.maximum(valid, 1)[..., None], valid / area


def batch_soft_labels(batch: Batch, n_classes: int, ignore_index: int) -> tuple[Floats, Floats]:
    """`soft_labels` of every image of a batch: b h w k and b h w. The message of an error names the image."""
    out = []
    for i, target in enumerate(batch.targets):
        view = placed_labels(batch.tokens.geometry, i, target["segmentation"], ignore_index)
        try:
            out.append(soft_labels(view, batch.tokens.geometry.patch_px, n_classes, ignore_index))
        except DataError as error:
            raise DataError(f"image {batch.tokens.keys[i]!r}: {error}") from error
    return np.stack([o[0] for o in out]), np.stack([o[1] for o in out])


def placed_labels(geometry: Geometry, i: int, labels: Any, ignore_index: int) -> npt.NDArray[np.integer]:
    """The label map of image i as the view sees it; padding is ignored."""
    placed = geometry.place_labels(i, np.asarray(labels).astype(np.int32, copy=False), fill=ignore_index)
    return np.asarray(placed, np.int32)


def mean_log_depth(view: npt.NDArray[np.floating], patch_px: int, low: float, high: float) -> tuple[Floats, Floats]:
    """Mean natural log of the valid depths (low < d < high) of every cell (h w, zero without any), and the valid share (h w)."""
    cut = cells(view, patch_px)
    valid = (cut > low) & (cut < high)
    logs = np.log(np.where(valid, cut, 1.0)).sum(-1, dtype=np.float64)
    count = valid.sum(-1)
    return (logs / np.maximum(count, 1)).astype(np.float32), (count / cut.shape[-1]).astype(np.float32)


def object_classes(context: TaskContext) -> list[int]:
    """Indices of the classes that are objects, as a constant for rows."""
    return [int(c) for c in context.dataset.object_classes]


def majority_labels(
    view: npt.NDArray[np.integer], patch_px: int, n_classes: int, ignore_index: int
) -> npt.NDArray[np.int64]:
    """Most frequent label of every cell (h w), void counted as a label and given as -1; ties go to the lowest class."""
    soft, share = soft_labels(view, patch_px, n_classes, ignore_index)
    counts = np.rint(np.concatenate([soft * share[..., None], 1 - share[..., None]], axis=-1) * patch_px**2)
    best = counts.argmax(-1)
    return np.where(best == n_classes, -1, best)


def batch_majority(batch: Batch, n_classes: int, ignore_index: int) -> npt.NDArray[np.int64]:
    """`majority_labels` of every image of a batch: b h w."""
    return np.stack(
        [
            majority_labels(
                named_view(batch, i, n_classes, ignore_index), batch.tokens.geometry.patch_px, n_classes, ignore_index
            )
            for i in range(len(batch.targets))
        ]
    )


def named_view(batch: Batch, i: int, n_classes: int, ignore_index: int) -> npt.NDArray[np.integer]:
    """The labels of image i as the view sees them. Raises DataError, naming the image, for a label outside 0..k-1."""
    view = placed_labels(batch.tokens.geometry, i, batch.targets[i]["segmentation"], ignore_index)
    largest = largest_label(view, ignore_index)
    if largest >= n_classes or int(view.min(initial=0)) < 0:
        raise DataError(
            f"image {batch.tokens.keys[i]!r}: label {largest} is outside the {n_classes} classes",
            "name all classes of the data set",
        )
    return view
