"""Video object segmentation: region J and boundary F per object (Pont-Tuset et al. 2017, arXiv 1704.00675).

As davis2017-evaluation: the first and last frame of a video are dropped, each object gives the mean, recall (share above
0.5) and decay (first less last quarter) of its frames, and the mean is over objects, not over videos.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vitbench.metrics.ratios import Array, mean_of, ratio
from vitbench.records.rows import Measure

Mask = npt.NDArray[np.bool_]
TOLERANCE = 0.008  # of the image diagonal
RECALL = 0.5
BINS = 4


def region(predicted: Mask, truth: Mask) -> float:
    """J: intersection over union of two masks h w; 1 where both are empty."""
    union = int((predicted | truth).sum())
    return float((predicted & truth).sum() / union) if union else 1.0


def boundary(mask: Mask) -> Mask:
    """Pixels h w that differ from the one to the right, below, or right below; in the last row and column fewer neighbours."""
    out = np.zeros_like(mask)
    out[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    out[:-1] |= mask[:-1] ^ mask[1:]
    out[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return out


def contour(predicted: Mask, truth: Mask) -> float:
    """F: harmonic mean of the shares of each boundary that lie within a disk of 0.8 % of the diagonal of the other.

    A mask without a boundary (empty, or the whole image) agrees with another such mask only.
    """
    radius = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    ours, theirs = boundary(predicted), boundary(truth)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    window = _around(ours | theirs, radius)
    ours, theirs = ours[window], theirs[window]
    precision = _near(ours, theirs, radius)
    recall = _near(theirs, ours, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _around(mask: Mask, margin: int) -> tuple[slice, slice]:
    """The part of the image that holds the mask and a margin."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        slice(max(rows[0] - margin, 0), rows[-1] + margin + 1),
        slice(max(cols[0] - margin, 0), cols[-1] + margin + 1),
    )


def _near(points: Mask, others: Mask, radius: int) -> float:
    """Share of points at most `radius` from any of the others; distances replace the dilation of the reference."""
    distance = ndimage.distance_transform_edt(~others)
    return float((distance[points] <= radius + 1e-6).mean())


def frame_statistics(values: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    """Mean, recall and decay of one object over its frames (n,). Frames are binned as in the reference, bounds shared."""
    ids = np.round(np.linspace(1, len(values), BINS + 1) + 1e-10).astype(np.int64) - 1
    bins = [values[ids[i] : ids[i + 1] + 1] for i in range(BINS)]
    return float(values.mean()), float((values > RECALL).mean()), float(bins[0].mean() - bins[-1].mean())


def object_statistics(j: npt.NDArray[np.floating], f: npt.NDArray[np.floating]) -> dict[str, float]:
    """Statistics of one object from J and F of its frames, the first and last of the video left out already."""
    out = {"n": 1.0, "n_frames": float(len(j))}
    for name, values in (("J", j), ("F", f)):
        out[name], out[f"{name}_recall"], out[f"{name}_decay"] = frame_statistics(np.asarray(values, np.float64))
    return out


def _percent(name: str, stat: str, higher_is_better: bool = True) -> Measure:
    return mean_of(name, "%", higher_is_better, stat, scale=100.0)


def _both(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
    return 50.0 * ratio(np.asarray(sums["J"]) + np.asarray(sums["F"]), sums["n"])


MEASURES: tuple[Measure, ...] = (
    Measure("J&F", "%", True, _both, per="n"),
    _percent("J", "J"),
    _percent("J_recall", "J_recall"),
    _percent("J_decay", "J_decay", higher_is_better=False),
    _percent("F", "F"),
    _percent("F_recall", "F_recall"),
    _percent("F_decay", "F_decay", higher_is_better=False),
)
