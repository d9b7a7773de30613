"""Effective rank (Garrido et al. 2022, arXiv 2210.02885) and uniformity (Wang and Isola 2020, arXiv 2005.10242) of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import Array, mean_of, ratio
from vitbench.records.rows import Measure


def effective_rank(gram: npt.NDArray[np.float64]) -> Array:
    """exp of the entropy of the singular values of X, from X^T X or X X^T (..., k, k); 0 where X is zero."""
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    p = values / np.maximum(values.sum(-1, keepdims=True), np.finfo(np.float64).tiny)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
    return np.where(values.sum(-1) > 0, np.exp(entropy), 0.0)


def pair_kernel(cosines: npt.NDArray[np.floating], t: float) -> float:
    """Mean of exp(-t |u - v|^2) over the pairs of unit vectors whose cosines are given (n n)."""
    n = len(cosines)
    kernel = np.exp(-2 * t * np.clip(1 - cosines.astype(np.float64), 0, None))
    return float((kernel.sum() - np.trace(kernel)) / max(n * (n - 1), 1))


def _uniformity(sums: Mapping[str, Array], _info: Mapping[str, Any]) -> Array:
    mean = ratio(sums["kernel"], sums["n"])
    return np.log(mean, out=np.full(mean.shape, np.nan), where=mean > 0)


MEASURES: tuple[Measure, ...] = (
    mean_of("effective_rank", "", True, "rank"),
    Measure("uniformity", "", False, _uniformity),
    Measure(
        "effective_rank_split", "", True, lambda _, info: np.asarray(info["rank_split"], np.float64),
        no_bootstrap="the spectrum of all tokens is no sum over images",
    ),
)  # fmt: skip
