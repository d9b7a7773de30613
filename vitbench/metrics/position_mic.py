"""The positional score of DVT (Yang et al. 2024, arXiv 2401.02957): how much the channel that knows it best tells of the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitbench.metrics.ratios import Array, mean_of, ratio
from vitbench.records.rows import Measure


def _both(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
    return ratio(np.asarray(sums["x"]) + sums["y"], 2 * np.asarray(sums["n"]))


def _channels(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
    return ratio(np.asarray(sums["mean_x"]) + sums["mean_y"], 2 * np.asarray(sums["n"]))


MEASURES: tuple[Measure, ...] = (
    Measure("MIC", "", False, _both),
    mean_of("MIC_x", "", False, "x"),
    mean_of("MIC_y", "", False, "y"),
    Measure("MIC_mean_channel", "", False, _channels),
)
