"""Which tokens lie along a singular defect direction, and how far they are from a smooth mix of their neighbours.

The loss of SINDER (Wang et al. 2024, arXiv 2407.16826) as pure functions; every image stands for itself. Where images are
padded, everything is as if the padding were not there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.1  # of a neighbour's weight, exp(-|cos| / TEMPERATURE)
GAUSSIANS: dict[int, tuple[tuple[int, ...], ...]] = {
    3: ((1, 2, 1), (2, 4, 2), (1, 2, 1)),
    5: ((1, 4, 7, 4, 1), (4, 16, 26, 16, 4), (7, 26, 41, 26, 7), (4, 16, 26, 16, 4), (1, 4, 7, 4, 1)),
}


def cosines(x: Tensor, direction: Tensor) -> Tensor:
    """|cos| of tokens x (b h w c) with a unit direction (c), b h w."""
    return (functional.normalize(x, dim=-1) @ direction).abs()


def outlying(cos: Tensor, valid: Tensor, deviations: float) -> Tensor:
    """Cells (b h w) whose |cos| is `deviations` unbiased deviations above the mean of the image's valid cells.

    No rule of this kind can flag more than 1 cell in `deviations`^2 + 1.
    """
    count = valid.sum((1, 2), keepdim=True)
    mean = (cos * valid).sum((1, 2), keepdim=True) / count.clamp_min(1)
    variance = ((cos - mean).square() * valid).sum((1, 2), keepdim=True) / (count - 1).clamp_min(1)
    return (cos > mean + deviations * variance.sqrt()) & valid


def inner(valid: Tensor, kernel: int) -> Tensor:
    """Cells (b h w) whose whole kernel x kernel neighbourhood is valid: the border and padding have no smooth target."""
    outside = functional.pad((~valid).float().unsqueeze(1), (kernel // 2,) * 4, value=1.0)
    return functional.max_pool2d(outside, kernel, stride=1)[:, 0] == 0


def smooth_target(x: Tensor, cos: Tensor, kernel: int) -> Tensor:
    """Each cell's neighbourhood, itself included, averaged by exp(-|cos| / 0.1) times a Gaussian.

    x: b h w c -> b h w c; cells that are not `inner` mix with zeros and mean nothing.
    """
    b, h, w, c = x.shape
    gaussian = torch.tensor(GAUSSIANS[kernel], dtype=x.dtype, device=x.device)[None, None]
    gaussian = gaussian / gaussian.sum()
    quiet = (-cos / TEMPERATURE).exp().unsqueeze(1)
    weighted = x.permute(0, 3, 1, 2) * quiet
    mixed = functional.conv2d(weighted.reshape(b * c, 1, h, w), gaussian, padding=kernel // 2).view(b, c, h, w)
    total = functional.conv2d(quiet, gaussian, padding=kernel // 2)
    return (mixed / total).permute(0, 2, 3, 1)


def neighbour_loss(x: Tensor, cos: Tensor, flags: Tensor, within: Tensor, kernel: int) -> Tensor:
    """Mean distance of the flagged tokens from their smooth targets, in mean lengths of the tokens `within`; b.

    x: b h w c; cos: its `cosines`; flags, within: b h w, flags inside `within`, and both inside `inner`. Targets and lengths
    take no gradient. An image without flags has loss zero.
    """
    still = x.detach()
    target = smooth_target(still, cos.detach(), kernel)
    # A flag's distance is indexed, not masked: the gradient of a norm at zero distance is not a number.
    image, row, col = flags.nonzero(as_tuple=True)
    distances = torch.linalg.vector_norm(x[image, row, col] - target[image, row, col], dim=-1)
    lengths = torch.linalg.vector_norm(still, dim=-1)
    scale = (lengths * within).sum((1, 2)) / within.sum((1, 2)).clamp_min(1)
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device).index_add(0, image, distances)
    loss: Tensor = total / flags.sum((1, 2)).clamp_min(1) / scale.clamp_min(torch.finfo(x.dtype).tiny)
    return loss
