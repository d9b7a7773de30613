"""A 3x3 median over the token grid, channel by channel. Negative control."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vitbench.catalogue.repairs import NoParams
from vitbench.catalogue.singular import MEDIAN3
from vitbench.repairs.base import Repair, State
from vitbench.repairs.moments import valid_cells
from vitbench.tokens.types import Tokens


class Median3(Repair[NoParams]):
    """Median of the 3x3 neighbours that show the image (mean of the middle two where their number is even)."""

    card = MEDIAN3

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        valid = valid_cells(tokens, x.device)
        h, w = valid.shape[1:]
        last = torch.where(valid.unsqueeze(-1), x, torch.inf)  # what does not count sorts behind what does
        padded = functional.pad(last, (0, 0, 1, 1, 1, 1), value=torch.inf)
        around = [[padded[k, i : i + h, j : j + w] for i in range(3) for j in range(3)] for k in range(len(x))]
        ordered = torch.stack([torch.stack(_sorted(nine)) for nine in around], dim=1)  # 9 b h w c
        count = functional.avg_pool2d(valid.to(x.dtype).unsqueeze(1), 3, 1, 1, divisor_override=1).squeeze(1).long()
        middle = [((count - 1 + i).clamp_min(0) // 2)[None, ..., None].expand_as(ordered[:1]) for i in (0, 1)]
        low, high = (ordered.gather(0, index).squeeze(0) for index in middle)
        return torch.where(valid.unsqueeze(-1), (low + high) / 2, x)


def _sorted(values: list[Tensor]) -> list[Tensor]:
    """Tensors of one shape, in ascending order element by element: odd-even transposition, much faster than `sort` for few."""
    values = list(values)
    for step in range(len(values)):
        for i in range(step % 2, len(values) - 1, 2):
            values[i : i + 2] = torch.minimum(values[i], values[i + 1]), torch.maximum(values[i], values[i + 1])
    return values
