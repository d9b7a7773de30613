"""Standardising, principal components and k-means (faiss) of many vectors."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.errors import DataError
from vitbench.heads.moments import Moments

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """x -> principal components of standardised channels; mean, scale (c,), components c d."""

    mean: Tensor
    scale: Tensor
    components: Tensor

    @staticmethod
    def fit(m: Moments, dims: int) -> Projection:
        """From the moments of all rows (targets are not used); at most `dims` components. Constant channels are left out."""
        mean = m.x / m.n
        covariance = m.xx / m.n - torch.outer(mean, mean)
        scale = covariance.diagonal().clamp_min(0).sqrt()
        scale = torch.where(scale > 1e-6 * scale.max().clamp_min(1e-30), scale, torch.full_like(scale, torch.inf))
        _, vectors = torch.linalg.eigh(covariance / torch.outer(scale, scale))
        return Projection((m.x0.double() + mean).float(), scale.float(), vectors.flip(1)[:, :dims].float())

    def __call__(self, x: Tensor) -> Tensor:
        """x: n c -> n d."""
        return ((x - self.mean) / self.scale) @ self.components


def kmeans(points: Floats, clusters: int, iterations: int, restarts: int, seed: int) -> npt.NDArray[np.int64]:
    """Cluster of each of n points (n d). Raises DataError where there are fewer points than clusters."""
    if len(points) < clusters:
        raise DataError(f"{len(points)} tokens cannot make {clusters} clusters", "give more images or fewer clusters")
    faiss.omp_set_num_threads(torch.get_num_threads())
    fitted = faiss.Kmeans(
        points.shape[1], clusters, niter=iterations, nredo=restarts, seed=seed, min_points_per_centroid=1
    )
    fitted.train(points)
    return np.asarray(fitted.index.search(points, 1)[1][:, 0], np.int64)
