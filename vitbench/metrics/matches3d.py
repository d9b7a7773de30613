"""Matches between two views of one object: recall of errors in space and in the image (El Banani et al. 2024, probe3d)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, percent, ratio
from vitbench.records.rows import Measure

CENTIMETRES = (1, 2, 5)
PIXELS = (5, 25, 50)
BIN_CM = 2
BINS_DEG = ((0, 30), (30, 60), (60, 90), (90, 120))

Floats = npt.NDArray[np.floating]


def match_statistics(errors_m: Floats, errors_px: Floats, rotation_deg: float) -> dict[str, float]:
    """Statistics of one pair from the errors of its matches (n,): shares within each limit, and the bin of its rotation."""
    known = len(errors_m) > 0
    out = {"n": float(known)}
    for cm in CENTIMETRES:
        out[f"within_{cm}cm"] = float((errors_m <= cm / 100).mean()) if known else 0.0
    for px in PIXELS:
        out[f"within_{px}px"] = float((errors_px <= px).mean()) if known else 0.0
    for low, high in BINS_DEG:
        inside = (known and low <= rotation_deg < high) or (known and rotation_deg == high == BINS_DEG[-1][1])
        out[f"n_{low}_{high}"] = float(inside)
        out[f"within_{low}_{high}"] = out[f"within_{BIN_CM}cm"] * inside
    return out


def _mean_3d(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
    total = sum(np.asarray(sums[f"within_{cm}cm"]) for cm in CENTIMETRES)
    return 100.0 * ratio(total, len(CENTIMETRES) * np.asarray(sums["n"]))


MEASURES: tuple[Measure, ...] = (
    Measure("recall_3d", "%", True, _mean_3d),
    *(percent(f"recall_{cm}cm", f"within_{cm}cm", "n") for cm in CENTIMETRES),
    *(percent(f"recall_{px}px", f"within_{px}px", "n") for px in PIXELS),
    *(percent(f"recall_{BIN_CM}cm_{a}_{b}deg", f"within_{a}_{b}", f"n_{a}_{b}") for a, b in BINS_DEG),
)
