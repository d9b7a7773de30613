"""How widely attention spreads over patches: entropy, distance, effective number, support, and its share on patches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import mean_of, percent
from vitbench.records.rows import Measure

NAMES = ("entropy", "distance", "effective", "support", "mass")


def spread_of_maps(weights: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The five numbers, mean over maps of attention on patches (k h w); distance is that to a map's own centre.

    A map of zeros, of a head that looks at no patch, has zeros of all five.
    """
    wide = weights.astype(np.float64)
    _, h, w = wide.shape
    mass = wide.sum((1, 2))
    p = (wide / np.maximum(mass, np.finfo(np.float64).tiny)[:, None, None]).reshape(len(wide), -1)
    places = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), -1).reshape(-1, 2)
    away = np.linalg.norm(places - (p @ places)[:, None], axis=-1)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1)
    squares = (p**2).sum(1)
    effective = np.divide(1, squares, out=np.zeros_like(squares), where=squares > 0)
    return np.asarray(np.stack([entropy, (p * away).sum(1), effective, (p > 0).sum(1), mass]).mean(1), np.float64)


def spread_statistics(numbers: npt.NDArray[np.floating], patches: int) -> dict[str, float]:
    """Statistics of one image from its five numbers; counts and entropy are taken relative to its number of patches."""
    entropy, distance, effective, support, mass = (float(v) for v in numbers)
    return {
        "n": 1.0,
        "entropy": entropy / max(float(np.log(patches)), 1e-12),
        "distance": distance,
        "effective": effective / patches,
        "support": support / patches,
        "mass": mass,
    }


MEASURES: tuple[Measure, ...] = (
    percent("entropy", "entropy", "n", higher_is_better=False),
    mean_of("distance", "patches", False, "distance"),
    *(percent(name, name, "n", higher_is_better=False) for name in ("effective", "support")),
    percent("mass", "mass", "n"),
)
