"""Linear discriminant in closed form: a softmax-linear classifier from class means and their shared covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.heads.ridge import LinearHead

ROUNDING = 1e-6  # share of the whole variance below which what is left within classes is the rounding of products


def fit_discriminant(
    class_sums: Tensor, class_counts: Tensor, products: Tensor, shift: Tensor, shrinkage: float
) -> LinearHead:
    """Logits of p(class | x) for Gaussian classes with one covariance and equal priors.

    class_sums k c and products c c (sum of x^T x over all rows) in float64, of rows minus `shift` (c,); every class has been
    seen. The within-class covariance gets `shrinkage` times its own diagonal added. Where the rows of a class are all alike it
    is nothing but rounding: the nearest mean is left, each channel in units of its own deviation.
    """
    n = class_counts.sum()
    means = class_sums / class_counts[:, None]
    within = (products - (means * class_counts[:, None]).T @ means) / n
    variance, whole = within.diagonal().clamp_min(0), products.diagonal() / n
    if variance.sum() <= ROUNDING * whole.sum():
        within, variance = torch.zeros_like(within), whole
    # A floor for channels that are constant within classes, or the system has no unique solution.
    floor = 1e-6 * variance.mean().clamp_min(1e-30)
    regular = within + torch.diag(shrinkage * variance + floor)
    weight = torch.linalg.solve(regular, means.T)
    bias = -0.5 * (means * weight.T).sum(1) - shift.double() @ weight
    return LinearHead(weight.float(), bias.float())
