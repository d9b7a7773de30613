"""Ridge regression in closed form from running sums: standardised features, free intercept, every lambda from one decomposition.

Minimises  mean_w |y - x W - b|^2 + lambda |W s|^2  with s the standard deviations of the features, so that lambda has the same
meaning for every backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitbench.errors import DataError
from vitbench.heads.moments import Moments


@dataclass(frozen=True)
class LinearHead:
    """y = x @ weight + bias; weight c k, bias (k,), float32."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x: ... c -> ... k."""
        out: Tensor = x @ self.weight + self.bias
        return out


@dataclass(frozen=True)
class RidgeFit:
    """The head refitted on all of train, the lambda chosen, and the held-out mean squared error of every lambda tried."""

    head: LinearHead
    lam: float
    errors: dict[float, float]


def _solutions(m: Moments, lambdas: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """(weight c k, bias k) in float64 for shifted features, one per lambda."""
    if m.n <= 0:
        raise DataError("no train token has a target", "check the labels of the train split")
    mean_x, mean_y = m.x / m.n, m.y / m.n
    covariance = m.xx / m.n - torch.outer(mean_x, mean_x)
    scale = covariance.diagonal().clamp_min(0).sqrt()
    # Constant channels carry nothing; a scale of one keeps their weight at zero instead of at infinity.
    scale = torch.where(scale > 1e-6 * scale.max().clamp_min(1e-30), scale, torch.ones_like(scale))
    values, vectors = torch.linalg.eigh(covariance / torch.outer(scale, scale))
    target = vectors.T @ ((m.xy / m.n - torch.outer(mean_x, mean_y)) / scale[:, None])
    out = []
    for lam in lambdas:
        weight = (vectors @ (target / (values.clamp_min(0) + lam)[:, None])) / scale[:, None]
        out.append((weight, mean_y - mean_x @ weight))
    return out


def _squared_error(m: Moments, weight: Tensor, bias: Tensor) -> float:
    """Mean over weighted rows of |y - x W - b|^2, from sums alone."""
    cross = (weight * m.xy).sum() + bias @ m.y
    quadratic = (weight * (m.xx @ weight)).sum() + 2 * (m.x @ weight) @ bias + m.n * bias @ bias
    return float((m.yy - 2 * cross + quadratic) / max(m.n, 1e-30))


def _head(m: Moments, weight: Tensor, bias: Tensor) -> LinearHead:
    return LinearHead(weight.float(), (bias - m.x0.double() @ weight).float())


def ridge(m: Moments, lam: float) -> LinearHead:
    """The head for one lambda."""
    return _head(m, *_solutions(m, [lam])[0])


def fit_ridge(part: Moments, held_out: Moments, lambdas: Sequence[float]) -> RidgeFit:
    """Choose lambda by squared error on the held-out sums, then refit on both. Ties go to the larger lambda.

    Raises DataError where no row has a target.
    """
    tried = sorted(lambdas, reverse=True)
    if min(part.n, held_out.n) <= 0:  # nothing to choose on: the middle of the grid
        errors = dict.fromkeys(tried, 0.0)
        best = tried[len(tried) // 2]
    else:
        errors = {
            lam: _squared_error(held_out, *solution)
            for lam, solution in zip(tried, _solutions(part, tried), strict=True)
        }
        best = min(tried, key=lambda lam: errors[lam])
    return RidgeFit(ridge(part + held_out, best), best, errors)


def log_grid(low: int, high: int, steps: int) -> list[float]:
    """`steps` values from 10^low to 10^high, evenly spaced in the logarithm."""
    return [10.0 ** (low + (high - low) * i / max(steps - 1, 1)) for i in range(steps)]
