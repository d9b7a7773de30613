"""Cosines of neighbouring patches, outliers and normal tokens apart (Darcet et al. 2023, arXiv 2309.16588, Fig. 5a).

Cosines are kept as histograms, so that medians and the AUROC of a whole split are functions of sums over images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, mean_of, ratio
from vitbench.records.rows import Measure

BINS = 400  # over -1..1
KINDS = ("normal", "outlier")

Floats = npt.NDArray[np.floating]


def cosine_counts(normal: Floats, outlier: Floats) -> dict[str, npt.ArrayLike]:
    """Statistics of one image from the cosines (n,) of pairs whose token is normal or an outlier."""
    out: dict[str, npt.ArrayLike] = {}
    for kind, cosines in zip(KINDS, (normal, outlier), strict=True):
        bins = np.clip(((cosines.astype(np.float64) + 1) * (BINS / 2)).astype(np.int64), 0, BINS - 1)
        out[f"n_{kind}"] = float(len(cosines))
        out[f"cosine_{kind}"] = float(cosines.sum(dtype=np.float64))
        out[f"histogram_{kind}"] = np.bincount(bins, minlength=BINS)
    return out


def auroc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> Array:
    """P(positive > negative) + P(equal) / 2 from histograms (..., bins); NaN where either is empty."""
    high, low = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    below = low.cumsum(-1) - low / 2
    return ratio((high * below).sum(-1), high.sum(-1) * low.sum(-1))


def _auroc(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
    return 100.0 * auroc(sums["histogram_outlier"], sums["histogram_normal"])


def _median(kind: str) -> Callable[[Mapping[str, Array], Mapping[str, Any]], Array]:
    def value(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
        reached = np.asarray(sums[f"histogram_{kind}"], np.float64).cumsum(-1)
        total = reached[..., -1]
        middle = (reached >= total[..., None] / 2).argmax(-1)
        return np.where(total > 0, (middle + 0.5) * (2 / BINS) - 1, np.nan)

    return value


MEASURES: tuple[Measure, ...] = (
    Measure("AUROC", "%", False, _auroc, per="n_outlier"),
    *(mean_of(f"cosine_{kind}", "", False, f"cosine_{kind}", f"n_{kind}") for kind in KINDS),
    *(Measure(f"median_{kind}", "", False, _median(kind), per=f"n_{kind}") for kind in KINDS),
    Measure(
        "outliers", "%", False,
        lambda sums, _: 100.0 * ratio(sums["n_outlier"], np.add(sums["n_outlier"], sums["n_normal"])),
    ),
)  # fmt: skip
