"""Pointing: does the patch most like CLS lie in a true box, beside chance and the centre of the image?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import percent
from vitbench.records.rows import Measure


def pointing(
    cosines: npt.NDArray[np.floating], boxed: npt.NDArray[np.bool_], valid: npt.NDArray[np.bool_], boxes: int
) -> dict[str, float]:
    """Statistics of one image from its grid (h w each): cosines with CLS, patches in a box, patches that show the image.

    boxes: how many the image has. One of which no patch is in a box counts in `n_without` and nowhere else.
    """
    inside = boxed & valid
    if not inside.any():
        return dict.fromkeys(("n", "hit", "n_single", "hit_single", "chance", "centre"), 0.0) | {"n_without": 1.0}
    best = int(np.where(valid, cosines, -np.inf).argmax())
    rows, cols = np.nonzero(valid)
    centre = (int(rows.max() + rows.min() + 1) // 2, int(cols.max() + cols.min() + 1) // 2)
    hit, single = float(inside.ravel()[best]), float(boxes == 1)
    return {
        "n": 1.0,
        "hit": hit,
        "n_single": single,
        "hit_single": hit * single,
        "chance": float(inside.sum() / valid.sum()),
        "centre": float(inside[centre]),
        "n_without": 0.0,
    }


MEASURES: tuple[Measure, ...] = (
    percent("hit", "hit", "n"),
    percent("hit_single", "hit_single", "n_single"),
    percent("hit_chance", "chance", "n"),
    percent("hit_centre", "centre", "n"),
)
