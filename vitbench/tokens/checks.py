"""The guard before an algorithm that would give a silent wrong answer: tokens of the promised shape, finite, not in halves."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.errors import TokensError

_FULL = (torch.float32, torch.float64)


def checked(x: Tensor, axes: str, what: str) -> Tensor:
    """x with the axes named (`b h w c`), float64 as it is and everything else as float32: signs, ties and cosines need that.

    Raises TokensError for other axes, an empty one, or values that are not finite; `what` names the tokens.
    """
    if x.ndim != len(axes.split()) or not x.numel():
        raise TokensError(f"{what} have shape {tuple(x.shape)}", f"the axes are {axes}, none of them empty")
    x = x if x.dtype in _FULL else x.float()
    # NaN and infinity survive a sum, which reads the tokens once and writes nothing.
    if not bool(x.sum(dtype=torch.float64).isfinite()):
        raise TokensError(f"{what} are not finite", "check the backbone and the repair, or use --dtype float32")
    return x
