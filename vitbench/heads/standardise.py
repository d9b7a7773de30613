"""Zero mean and unit variance per channel, fitted on train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standardiser:
    """x -> (x - mean) / scale; mean, scale (c,). Constant channels become zero."""

    mean: Floats
    scale: Floats

    @staticmethod
    def fit(x: Floats) -> Standardiser:
        """From train features n c."""
        scale = x.std(0)
        return Standardiser(x.mean(0), np.where(scale > 0, scale, 1.0))

    @staticmethod
    def identity(channels: int) -> Standardiser:
        """Leaves features as they are."""
        return Standardiser(np.zeros(channels), np.ones(channels))

    def __call__(self, x: Floats) -> Floats:
        return np.asarray((x - self.mean) / self.scale, np.float64)
