"""Pixel probe: mean L2 norm of a patch's reconstruction error (Darcet et al. 2023, arXiv 2309.16588)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import mean_of, percent
from vitbench.records.rows import Measure


def pixel_errors(errors: npt.NDArray[np.floating], outlier: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Statistics of one image from the L2 norms of the error vectors of its tokens (n,)."""
    out = {}
    for name, mask in (("", np.ones_like(outlier)), ("_normal", ~outlier), ("_outlier", outlier)):
        out[f"n{name}"] = float(mask.sum())
        out[f"l2{name}"] = float(errors[mask].sum(dtype=np.float64))
    return out


MEASURES: tuple[Measure, ...] = (
    *(mean_of(f"l2{kind}", "", False, f"l2{kind}", f"n{kind}") for kind in ("", "_normal", "_outlier")),
    percent("outliers", "n_outlier", "n", higher_is_better=False),
)
