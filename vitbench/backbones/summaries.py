"""What a pass keeps of every block or of all attention, so that asking for it does not write it: one number per patch.

Fields that a backbone cannot give have no rows (b 0 h w); a pass that others share must not fail for them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import normalize

SPREAD = ("entropy", "distance", "effective", "support", "mass")  # rows of the field `attention_spread`


def cls_cosines(x: Tensor, cls: int, patches: slice) -> Tensor:
    """Cosine of each patch with CLS (with the mean patch where there is none): tokens b T c -> b n float32."""
    grid = x[:, patches].float()
    whole = x[:, 0].float() if cls else grid.mean(1)
    return (normalize(grid, dim=-1) @ normalize(whole, dim=-1).unsqueeze(-1))[..., 0]


def direction_cosines(grid: Tensor, direction: Tensor) -> Tensor:
    """|cosine| of tokens b n c with one direction (c, unit length): b n float32."""
    return (normalize(grid.float(), dim=-1) @ direction.to(grid.device, torch.float32)).abs()


def attention_spread(weights: Iterable[Tensor], patches: slice, grid_hw: tuple[int, int]) -> Tensor:
    """How each patch attends, mean over heads: b 5 h w float32, rows as in SPREAD.

    weights: attention a T T of one image after another. Entropy (nats), distance (patches), effective number of patches
    (1 / sum of squares) and support (patches with a weight above zero) are of the weights on patches, brought to sum one;
    mass is the share of attention that patches get. A head that looks at no patch, as entmax allows, has zeros of all.
    """
    found = [_spread(w[:, patches].float(), patches, grid_hw) for w in weights]
    return torch.stack(found).reshape(len(found), len(SPREAD), *grid_hw)


def _spread(rows: Tensor, patches: slice, grid_hw: tuple[int, int]) -> Tensor:
    on_patches = rows[..., patches]
    mass = on_patches.sum(-1)
    p = on_patches / mass.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(-1)
    y, x = torch.meshgrid(*(torch.arange(n, device=p.device, dtype=p.dtype) for n in grid_hw), indexing="ij")
    places = torch.stack((y.flatten(), x.flatten()), -1)
    away = torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
    squares = p.square().sum(-1)
    numbers = (
        torch.special.entr(p).sum(-1),
        (p * away).sum(-1),
        torch.where(squares > 0, 1 / squares, 0.0),
        (p > 0).sum(-1, dtype=torch.float32),
        mass / rows.sum(-1).clamp_min(torch.finfo(torch.float32).tiny),
    )
    return torch.stack([n.mean(0) for n in numbers])
