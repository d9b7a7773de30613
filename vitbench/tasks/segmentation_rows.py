"""Statistics of one segmented image: pixels by class, and tokens whose best class is the majority label of their cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vitbench.errors import DataError
from vitbench.metrics.segmentation import class_counts, confusion, patch_counts
from vitbench.tasks.base import Batch, TaskContext
from vitbench.tasks.patch_labels import largest_label, placed_labels, soft_labels

Ints = npt.NDArray[np.integer]


def image_confusion(
    key: str, predicted: Ints, label: Ints, n_classes: int, context: TaskContext, extra: int = 0
) -> npt.NDArray[np.int64]:
    """Confusion of one image over `n_classes`, or more where an undeclared class turns up. Errors name the image.

    `extra`: further classes at the end that can be predicted and are never true.
    """
    ignore, known = context.dataset.ignore_index, n_classes
    if not context.dataset.classes:
        n_classes = max(n_classes, largest_label(label, ignore) + 1)
    if extra:
        predicted = np.where(predicted >= known, predicted + (n_classes - known), predicted)
    try:
        if extra and largest_label(label, ignore) >= n_classes:
            raise DataError(
                f"label {largest_label(label, ignore)} is outside the {n_classes} classes",
                "name all classes of the data set",
            )
        return confusion(predicted, label, n_classes + extra, ignore)
    except DataError as error:
        raise DataError(f"image {key!r}: {error}") from error


def token_stats(batch: Batch, i: int, scores: Tensor, context: TaskContext) -> dict[str, float]:
    """Tokens of image i that are right; scores h w k. Ties of the majority go to the lowest class."""
    geometry, ignore = batch.tokens.geometry, context.dataset.ignore_index
    view = placed_labels(geometry, i, batch.targets[i]["segmentation"], ignore)
    n_classes = max(scores.shape[-1], largest_label(view, ignore) + 1)
    soft, share = soft_labels(view, geometry.patch_px, n_classes, ignore)
    flagged = np.zeros(share.shape, dtype=bool)
    if "flags" in batch.tokens:
        flagged = batch.tokens["flags"][i].cpu().numpy().astype(bool)
    return patch_counts(scores.argmax(-1).cpu().numpy(), soft.argmax(-1), share > 0, flagged)


def image_stats(
    batch: Batch, i: int, predicted: Ints, label: Ints, scores: Tensor, context: TaskContext
) -> dict[str, npt.ArrayLike]:
    """All statistics of image i: predicted and true classes of the same pixels, and the scores of its tokens (h w k)."""
    matrix = image_confusion(batch.tokens.keys[i], predicted, label, scores.shape[-1], context)
    return {**class_counts(matrix), **token_stats(batch, i, scores, context)}


def constant_cells(classes: Tensor, patch_px: int) -> npt.NDArray[np.int64]:
    """Classes of cells (h w) as classes of the view's pixels (h*p w*p)."""
    return classes.cpu().numpy().astype(np.int64).repeat(patch_px, 0).repeat(patch_px, 1)
