"""Semantic segmentation: per-image counts per class; mIoU, mAcc and aAcc of the whole split come from their sums.

mIoU is the mean over classes that occur in labels or predictions of the split (mmsegmentation's nanmean), never a mean of
per-image values; hummingbird's `compat` counts absent classes, too, with 0. Patch accuracies compare each token's best class
with the majority label of its cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.errors import DataError
from vitbench.metrics.ratios import Array, mean_where, percent, ratio
from vitbench.records.rows import Measure

Ints = npt.NDArray[np.integer]


def confusion(predicted: Ints, label: Ints, n_classes: int, ignore_index: int = 255) -> npt.NDArray[np.int64]:
    """Pixels by (true, predicted) class, (k, k); pixels labelled `ignore_index` are left out.

    Raises DataError for other labels outside 0..k-1.
    """
    truth = np.asarray(label).ravel()
    valid = truth != ignore_index
    if not valid.all():
        truth = truth[valid]
        predicted = np.asarray(predicted).ravel()[valid]
    if truth.size and not (int(truth.min()) >= 0 and int(truth.max()) < n_classes):
        raise DataError(
            f"label {int(truth.max())} is outside the {n_classes} classes", "name all classes of the data set"
        )
    flat = truth.astype(np.int64) * n_classes + np.asarray(predicted).ravel()
    return np.bincount(flat, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def class_counts(matrix: npt.NDArray[np.int64]) -> dict[str, Array]:
    """Confusion (k, k) -> pixels per class that are `tp`, `fp`, `fn`, each (k,)."""
    tp = np.diagonal(matrix).astype(np.float64)
    return {"tp": tp, "fp": matrix.sum(0) - tp, "fn": matrix.sum(1) - tp}


def patch_counts(
    predicted: Ints, majority: Ints, valid: npt.NDArray[np.bool_], flagged: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Tokens of one image that are right: all valid cells, and those flagged as planted artefacts."""
    right = (predicted == majority) & valid
    return {
        "n_tokens": float(valid.sum()),
        "correct_tokens": float(right.sum()),
        "n_flagged": float((valid & flagged).sum()),
        "correct_flagged": float((right & flagged).sum()),
    }


def class_iou(sums: Mapping[str, Array]) -> Array:
    """IoU per class (..., k) as fractions; NaN for classes in neither labels nor predictions."""
    return ratio(sums["tp"], sums["tp"] + sums["fp"] + sums["fn"])


def _mean_iou(sums: Mapping[str, Array], info: Mapping[str, Any], classes: Sequence[int] | None = None) -> Array:
    iou = class_iou(sums)
    union = np.isfinite(iou)
    if info.get("absent_classes") == "zero":
        union = np.ones_like(union)
    iou = np.nan_to_num(iou)
    if classes is not None:
        chosen = [c for c in classes if c < iou.shape[-1]]
        iou, union = iou[..., chosen], union[..., chosen]
    return 100.0 * mean_where(iou, union)


def _mean_accuracy(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
    truth = sums["tp"] + sums["fn"]
    return 100.0 * mean_where(np.nan_to_num(ratio(sums["tp"], truth)), truth > 0)


def _all_accuracy(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
    return 100.0 * ratio(sums["tp"].sum(-1), (sums["tp"] + sums["fn"]).sum(-1))


MEASURES: tuple[Measure, ...] = (
    Measure("mIoU", "%", True, _mean_iou),
    Measure("mIoU_objects", "%", True, lambda sums, info: _mean_iou(sums, info, tuple(info.get("object_classes", ())))),
    Measure("mAcc", "%", True, _mean_accuracy),
    Measure("aAcc", "%", True, _all_accuracy),
    percent("patch_accuracy", "correct_tokens", "n_tokens"),
    percent("flagged_accuracy", "correct_flagged", "n_flagged"),
)
