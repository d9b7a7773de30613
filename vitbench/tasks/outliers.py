"""Outlier tokens by their norm: median + k MAD of reference norms, a rule that reports none where there is none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vitbench.errors import DataError, UsageError
from vitbench.metrics.norms import mad_threshold
from vitbench.tasks.base import Batch, TokenStream

REFERENCE_IMAGES = 1000


def block_norms(batch: Batch, block: int) -> Tensor:
    """Norms of patch tokens after one block: b h w."""
    norms = batch.tokens["norms"]
    if not -norms.shape[1] <= block < norms.shape[1]:
        raise UsageError(f"block {block} of {norms.shape[1]}", f"-{norms.shape[1]}..{norms.shape[1] - 1}")
    return norms[:, block]


class NormReference:
    """Collects the norms of train tokens (four bytes a token) and gives the threshold."""

    def __init__(self, k_mad: float, block: int) -> None:
        self._k_mad, self._block = k_mad, block
        self._parts: list[npt.NDArray[np.float32]] = []

    def add(self, batch: Batch) -> None:
        self._parts.append(block_norms(batch, self._block).cpu().numpy().astype(np.float32).ravel())

    def threshold(self) -> float:
        """Norm above which a token is an outlier."""
        return float(mad_threshold(np.concatenate(self._parts), self._k_mad))


def split_threshold(stream: TokenStream, k_mad: float, block: int) -> float:
    """Norm above which a token of a split is an outlier, from its first 1,000 images. Raises DataError where it has none."""
    reference, images = NormReference(k_mad, block), 0
    for batch in stream:
        reference.add(batch)
        images += len(batch.tokens)
        if images >= REFERENCE_IMAGES:
            break
    if not images:
        raise DataError("the split to measure on is empty", "check the data set and --limit")
    return reference.threshold()
