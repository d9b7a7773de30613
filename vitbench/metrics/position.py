"""Position probe: top-1 accuracy over grid positions and mean distance in patches (Darcet et al. 2023, arXiv 2309.16588)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import mean_of, percent
from vitbench.records.rows import Measure


def position_counts(
    predicted: npt.NDArray[np.integer], grid_hw: tuple[int, int], outlier: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Statistics of one image: predicted positions (row-major index) and outlier mask, both (h*w,)."""
    h, w = grid_hw
    truth = np.arange(h * w)
    right = predicted == truth
    distance = np.hypot(predicted // w - truth // w, predicted % w - truth % w)
    out = {}
    for name, mask in (("", np.ones_like(outlier)), ("_normal", ~outlier), ("_outlier", outlier)):
        out[f"n{name}"] = float(mask.sum())
        out[f"correct{name}"] = float(right[mask].sum())
        out[f"distance{name}"] = float(distance[mask].sum())
    return out


MEASURES: tuple[Measure, ...] = (
    *(percent(f"top1{kind}", f"correct{kind}", f"n{kind}") for kind in ("", "_normal", "_outlier")),
    *(
        mean_of(f"distance{kind}", "patches", False, f"distance{kind}", f"n{kind}")
        for kind in ("", "_normal", "_outlier")
    ),
    percent("outliers", "n_outlier", "n", higher_is_better=False),
)
