"""Keypoint correspondence: PCK, the share of points found within a share of the object's larger side.

Per point, per image pair and per class differ by several points on the same matches, so all three are reported. Where several
features were tried (DINOv3 takes the better of two), a value is that of the best one. Beside them stands the PCK of guessing
the same place again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, mean_where, percent, ratio
from vitbench.records.rows import Measure

ALPHAS = (0.05, 0.1, 0.15)
HEADLINE = 0.1
VIEWPOINTS = (0, 1, 2)

Floats = npt.NDArray[np.floating]


def larger_side(box: Floats) -> float:
    """Of a box x0 y0 x1 y1."""
    return float(max(box[2] - box[0], box[3] - box[1]))


def pair_statistics(
    errors: Floats, same_place: Floats, label: int, in_all: bool = True, viewpoint: int | None = None
) -> dict[str, npt.ArrayLike]:
    """Statistics of one pair of images. errors: v p, distance of each match over the object's larger side, for v features;
    same_place: p, of guessing the source's place. in_all: it counts in the totals; viewpoint: in those of its viewpoint."""
    weight, points = float(in_all), errors.shape[1]
    share = (errors <= HEADLINE).mean(1)
    of_class = np.zeros((label + 1, len(errors)))
    of_class[label] = share
    known = np.zeros(label + 1)
    known[label] = 1.0
    stats: dict[str, npt.ArrayLike] = {
        "n": weight,
        "n_points": weight * points,
        "same_place": weight * float((same_place <= HEADLINE).sum()),
        "share": weight * share,
        "class_share": weight * of_class.ravel(),
        "class_n": weight * known,
    }
    for alpha in ALPHAS:
        stats[f"hits_{alpha:g}"] = weight * (errors <= alpha).sum(1)
    for view in VIEWPOINTS:
        stats[f"view{view}_share"] = float(viewpoint == view) * of_class.ravel()
        stats[f"view{view}_n"] = float(viewpoint == view) * known
    return stats


def _best(top: str, bottom: str) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    def value(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
        best: Array = ratio(sums[top], np.asarray(sums[bottom])[..., None]).max(-1)
        return 100.0 * best

    return value


def _over_classes(prefix: str) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    """Mean over pairs of a class, then over the classes that have pairs; the best feature of these means."""

    def value(sums: Mapping[str, Array], info: Mapping[str, Any]) -> Array:
        features = int(info.get("features", 1))
        shares, n = np.asarray(sums[f"{prefix}_share"], np.float64), np.asarray(sums[f"{prefix}_n"], np.float64)
        by_feature = shares.reshape(*shares.shape[:-1], -1, features).swapaxes(-1, -2)
        each = np.nan_to_num(ratio(by_feature, n[..., None, :]))
        best: Array = mean_where(each, np.broadcast_to(n[..., None, :] > 0, each.shape)).max(-1)
        return 100.0 * best

    return value


MEASURES: tuple[Measure, ...] = (
    Measure("PCK", "%", True, _best(f"hits_{HEADLINE:g}", "n_points")),
    Measure("PCK_per_image", "%", True, _best("share", "n")),
    Measure("PCK_per_class", "%", True, _over_classes("class")),
    *(
        Measure(f"PCK@{alpha:.2f}", "%", True, _best(f"hits_{alpha:g}", "n_points"))
        for alpha in ALPHAS
        if alpha != HEADLINE
    ),
    *(Measure(f"PCK_viewpoint{v}", "%", True, _over_classes(f"view{v}")) for v in VIEWPOINTS),
    percent("PCK_same_place", "same_place", "n_points"),
)
