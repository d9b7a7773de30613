"""TokenCut: a normalised cut of an image's tokens in two, by the second eigenvector (Wang et al. 2022, arXiv 2202.11539).

The reference solves the dense generalised problem (D - A) v = l D v. The same vector is D^-1/2 times the largest
eigenvector of D^-1/2 A D^-1/2 once its known first one, D^1/2 1, is taken out; Lanczos needs some twenty products for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from vitbench.tasks.lost import LostBoxes
from vitbench.tokens.checks import checked

Floats = npt.NDArray[np.float64]
_TIE = 1e-9  # entries this near to the largest are the same patch twice: the first is the seed
_TOLERANCE = 1e-10
_DENSE = 32  # up to so many tokens Lanczos saves nothing


@dataclass(frozen=True)
class Cut:
    """vector: n, the second eigenvector, its largest entry positive; foreground: n, above its mean; seed: index of that entry.

    alike: all pairs of tokens are joined (or none), so that there is nothing to cut and the vector means nothing.
    """

    vector: Floats
    foreground: npt.NDArray[np.bool_]
    seed: int
    alike: bool


def affinity(tokens: Tensor, tau: float, eps: float = 1e-5) -> Floats:
    """n c -> n n: 1 where the cosine is above tau, else eps, so that the graph hangs together."""
    unit = torch.nn.functional.normalize(tokens, dim=-1)
    return np.where((unit @ unit.T > tau).cpu().numpy(), 1.0, eps)


def second_eigenvector(weights: Floats) -> Floats:
    """Of (D - A, D) for symmetric positive weights n n: the vector (n,) of the second smallest eigenvalue, unit length.

    Its sign makes the entry of largest magnitude positive (the first of those within rounding), whatever solver is used.
    """
    n = len(weights)
    if weights.min() == weights.max():  # nothing to cut: any vector across the constant one solves it
        across: Floats = np.eye(n)[0] - 1 / n
        across /= max(float(np.linalg.norm(across)), 1.0 / n)
        return across
    root = np.sqrt(weights.sum(1))
    scaled = weights / root[:, None] / root[None, :]
    first = root / np.linalg.norm(root)

    def product(x: Floats) -> Floats:
        x = x.ravel()
        return np.asarray(scaled @ x - first * (first @ x), np.float64)

    if n <= _DENSE:
        found = np.linalg.eigh(scaled - np.outer(first, first) * 2)[1][:, -1]
    else:
        # A fixed start: where two eigenvalues are equal the vector is not determined, but the result still repeats.
        start = np.random.default_rng(0).standard_normal(n)
        operator = LinearOperator((n, n), matvec=product, dtype=np.float64)
        found = eigsh(operator, k=1, which="LA", v0=start, tol=_TOLERANCE)[1][:, 0]
    vector: Floats = found / root
    vector /= np.linalg.norm(vector)
    vector *= np.sign(vector[_peak(vector)])
    return vector


def _peak(vector: Floats) -> int:
    size = np.abs(vector)
    return int(np.flatnonzero(size >= size.max() * (1 - _TIE))[0])


def cut(tokens: Tensor, tau: float) -> Cut:
    """The two parts of one image's tokens n c. The reference flips the sign where its seed is in the background; here
    the seed's entry is positive from the start."""
    weights = affinity(checked(tokens, "n c", "tokens for TokenCut"), tau)
    vector = second_eigenvector(weights)
    return Cut(vector, vector > vector.mean(), _peak(vector), bool(weights.min() == weights.max()))


def tokencut_boxes(tokens: Tensor, tau: float) -> LostBoxes:
    """One box per image (b h w c, raw) around the part of the cut that is connected with its most extreme patch."""
    tokens = checked(tokens, "b h w c", "tokens for TokenCut")
    cuts = [cut(image.flatten(0, 1), tau) for image in tokens]
    masks, seeds = np.stack([c.foreground for c in cuts]), np.array([c.seed for c in cuts], np.int64)
    boxes = LostBoxes.of(masks, seeds, (tokens.shape[1], tokens.shape[2]))
    return replace(boxes, alike=np.array([c.alike for c in cuts]))
