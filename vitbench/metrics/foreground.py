"""Foreground alignment: do patches like CLS lie on the objects? AUC and gap of the cosine, image by image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from vitbench.metrics.ratios import mean_of, percent
from vitbench.records.rows import Measure


def alignment(cosines: npt.NDArray[np.floating], foreground: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Statistics of one image: cosines of its patches with CLS and which are foreground, both (n,).

    An image whose patches are all of one kind counts in `n_without` and nowhere else.
    """
    high, low = int(foreground.sum()), int((~foreground).sum())
    if not high or not low:
        return {"n": 0.0, "auc": 0.0, "gap": 0.0, "n_without": 1.0}
    values = cosines.astype(np.float64)
    wins = rankdata(values)[foreground].sum() - high * (high + 1) / 2
    gap = values[foreground].mean() - values[~foreground].mean()
    return {"n": 1.0, "auc": float(wins / (high * low)), "gap": float(gap), "n_without": 0.0}


MEASURES: tuple[Measure, ...] = (percent("AUC", "auc", "n"), mean_of("gap", "", True, "gap"))
