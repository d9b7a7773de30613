"""Single-object localisation: CorLoc, with the baselines without which it cannot be read.

CorLoc is the share of images whose box has an IoU of at least 0.5 with any true box (Simeoni et al. 2021, arXiv 2109.14279);
coordinates are continuous. Boxes that need no model reach a good part of what methods do.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import percent
from vitbench.records.rows import Measure

Boxes = npt.NDArray[np.floating]
THRESHOLD = 0.5
DEGENERATE_SHARE = 0.95
_EPS = 1e-7  # as in the reference


def box_iou(box: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    """IoU of one box (4,) with n (n 4), x0 y0 x1 y1."""
    a, b = np.asarray(box, np.float64), np.asarray(others, np.float64).reshape(-1, 4)
    size = np.minimum(a[2:], b[:, 2:]) - np.maximum(a[:2], b[:, :2])
    inter = np.clip(size, 0, None).prod(1)
    union = (a[2:] - a[:2]).prod() + (b[:, 2:] - b[:, :2]).prod(1) - inter
    return np.asarray(inter / (union + _EPS), np.float64)


def whole_image_box(image_hw: tuple[int, int]) -> Boxes:
    """The box of the image itself."""
    return np.array([0, 0, image_hw[1], image_hw[0]], np.float64)


def centre_box(image_hw: tuple[int, int]) -> Boxes:
    """The centred box of the image's shape and half its area."""
    h, w = image_hw
    margin = (1 - math.sqrt(0.5)) / 2
    return np.array([w * margin, h * margin, w * (1 - margin), h * (1 - margin)], np.float64)


def localisation(box: Boxes, truth: Boxes, image_hw: tuple[int, int]) -> dict[str, float]:
    """Statistics of one image: hits of the box and of the two baselines, and whether the box is nearly the whole image.

    An image without boxes counts in `n_without` and nowhere else.
    """
    truth = np.asarray(truth, np.float64).reshape(-1, 4)
    names = ("hit", "hit_whole_image", "hit_centre_box", "degenerate")
    if not len(truth):
        return {**dict.fromkeys(names, 0.0), "n": 0.0, "n_without": 1.0}
    candidates = (np.asarray(box, np.float64), whole_image_box(image_hw), centre_box(image_hw))
    hits = [float(box_iou(b, truth).max() >= THRESHOLD) for b in candidates]
    area = float((candidates[0][2:] - candidates[0][:2]).prod()) / (image_hw[0] * image_hw[1])
    values = [*hits, float(area > DEGENERATE_SHARE)]
    return {**dict(zip(names, values, strict=True)), "n": 1.0, "n_without": 0.0}


MEASURES: tuple[Measure, ...] = (
    percent("CorLoc", "hit", "n"),
    percent("CorLoc_whole_image", "hit_whole_image", "n"),
    percent("CorLoc_centre_box", "hit_centre_box", "n"),
    percent("degenerate", "degenerate", "n", higher_is_better=False),
    percent("seed_outside", "seed_outside", "n", higher_is_better=False),
    Measure("images", "", True, lambda sums, _info: np.asarray(sums["n"], np.float64), no_bootstrap="a count"),
)
