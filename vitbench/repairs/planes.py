"""Planes in which tokens tell their place in the image, found one after another and removed (RASA, in Franca).

Venkataramanan et al. 2025, arXiv 2507.14137. What repairs share that find them by training or in closed form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.errors import NotApplicableError
from vitbench.tokens.types import Tokens

LEAST = 1e-6  # of a direction's length must be left once earlier ones are taken out of it


def places(tokens: Tokens) -> Tensor:
    """Row and column of every cell that shows the image, each from 0 to 1 over the grid: n 2, in the order of `rows`."""
    h, w = tokens.geometry.grid_hw
    y, x = (torch.arange(n, dtype=torch.float32) / max(n - 1, 1) for n in (h, w))
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij"), dim=-1)
    valid = torch.from_numpy(tokens.geometry.valid())
    return grid.expand(len(tokens), h, w, 2)[valid]


def planes_that_fit(rounds: int, channels: int) -> int:
    """How many rounds are run: planes take at most half of the channels."""
    return min(rounds, channels // 4)


def without(x: Tensor, basis: Tensor) -> Tensor:
    """... c -> the same less its projection on orthonormal rows (k c)."""
    return x - (x @ basis.T) @ basis


def extended(basis: Tensor, directions: Tensor) -> Tensor:
    """Orthonormal rows (k c) and further directions (m c) -> k + m orthonormal rows that span both (Gram-Schmidt).

    Raises NotApplicableError where a direction adds nothing.
    """
    for direction in directions:
        length = direction.norm()
        for _ in range(2):  # once leaves rounding errors of nearly parallel directions
            direction = without(direction, basis)
        if not float(direction.norm()) > LEAST * float(length):
            raise NotApplicableError("no direction is left in which tokens tell their position", "use fewer rounds")
        basis = torch.cat((basis, (direction / direction.norm()).unsqueeze(0)))
    return basis
