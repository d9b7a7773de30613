"""Monocular depth: nine metrics per image, then their mean over images (Monocular-Depth-Estimation-Toolbox, DINOv2).

rmse is the mean over images of the root of each image's mean squared error (mse). Some report one root at the end, which gives
larger numbers: rmse_of_images is the root of the mean mse over images, rmse_of_pixels that of all valid pixels alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, mean_of, share
from vitbench.records.rows import Measure

Floats = npt.NDArray[np.floating]
NAMES = ("d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")
_EIGEN_ROWS, _EIGEN_COLS = (45 / 480, 471 / 480), (41 / 640, 601 / 640)
_GARG_ROWS, _GARG_COLS = (0.40810811, 0.99189189), (0.03594771, 0.96405229)


def eigen_crop(height: int, width: int) -> npt.NDArray[np.bool_]:
    """h w: the part of an NYUv2 image that Eigen et al. score, rows 45:471 and columns 41:601 of 480x640, scaled."""
    mask = np.zeros((height, width), dtype=bool)
    rows = slice(round(_EIGEN_ROWS[0] * height), round(_EIGEN_ROWS[1] * height))
    mask[rows, round(_EIGEN_COLS[0] * width) : round(_EIGEN_COLS[1] * width)] = True
    return mask


def garg_crop(height: int, width: int) -> npt.NDArray[np.bool_]:
    """h w: the part of a KITTI image that Garg et al. score."""
    mask = np.zeros((height, width), dtype=bool)
    rows = slice(int(_GARG_ROWS[0] * height), int(_GARG_ROWS[1] * height))
    mask[rows, int(_GARG_COLS[0] * width) : int(_GARG_COLS[1] * width)] = True
    return mask


def image_metrics(predicted: Floats, depth: Floats, valid: npt.NDArray[np.bool_]) -> dict[str, float]:
    """The metrics of one image: depths in metres (h w), both positive where valid. d1..d3 in percent, silog as in KITTI.

    Also mean and sum of the squared error, and `n`: 1, or 0 with zeros elsewhere for an image without a valid pixel, which is
    thereby skipped.
    """
    p, g = predicted[valid].astype(np.float64), depth[valid].astype(np.float64)
    if not g.size:
        return {**dict.fromkeys((*NAMES, "mse", "squared_error"), 0.0), "n": 0.0, "n_pixels": 0.0}
    worst = np.maximum(g / p, p / g)
    log_error = np.log(p) - np.log(g)
    squared = (g - p) ** 2
    values = {
        **{f"d{i}": 100.0 * float((worst < 1.25**i).mean()) for i in (1, 2, 3)},
        "abs_rel": float((np.abs(g - p) / g).mean()),
        "sq_rel": float((squared / g).mean()),
        "rmse": float(np.sqrt(squared.mean())),
        "rmse_log": float(np.sqrt((log_error**2).mean())),
        "log10": float(np.abs(log_error).mean() / np.log(10)),
        # The variance is taken as such: mean(e^2) - mean(e)^2 can be a tiny negative number.
        "silog": 100.0 * float(log_error.std()),
    }
    summed = {"mse": float(squared.mean()), "squared_error": float(squared.sum())}
    return {**values, **summed, "n": 1.0, "n_pixels": float(g.size)}


def _measure(name: str, unit: str, higher_is_better: bool = False) -> Measure:
    return mean_of(name, unit, higher_is_better, name)


def _root(top: str, bottom: str) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    mean = share(top, bottom)
    return lambda sums, info: np.sqrt(mean(sums, info))


MEASURES: tuple[Measure, ...] = (
    *(_measure(f"d{i}", "%", True) for i in (1, 2, 3)),
    _measure("abs_rel", ""),
    _measure("sq_rel", "m"),
    _measure("rmse", "m"),
    _measure("rmse_log", ""),
    _measure("log10", ""),
    _measure("silog", ""),
    Measure("rmse_of_images", "m", False, _root("mse", "n"), per="n"),
    Measure("rmse_of_pixels", "m", False, _root("squared_error", "n_pixels"), per="n"),
)
