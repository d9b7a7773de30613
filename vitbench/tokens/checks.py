"""The guard before an algorithm that would give a silent wrong answer: tokens of the promised shape, finite, not in halves."""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.catalogue.fields import CLS_FIELDS, GRID_FIELDS, parse_field
from vitbench.errors import TokensError
from vitbench.tokens.types import Tokens

_FULL = (torch.float32, torch.float64)
_REMEDY = "check the backbone and the repair, or use --dtype float32"


def checked(x: Tensor, axes: str, what: str) -> Tensor:
    """x with the axes named (`b h w c`), float64 as it is and everything else as float32: signs, ties and cosines need that.

    Raises TokensError for other axes, an empty one, or values that are not finite; `what` names the tokens.
    """
    if x.ndim != len(axes.split()) or not x.numel():
        raise TokensError(f"{what} have shape {tuple(x.shape)}", f"the axes are {axes}, none of them empty")
    if not finite(x):
        raise TokensError(f"{what} are not finite", _REMEDY)
    return x if x.dtype in _FULL else x.float()


def finite(x: Tensor) -> bool:
    """Whether all values are. NaN and infinity survive a sum, which reads once and writes nothing."""
    return bool(x.sum(dtype=torch.float32).isfinite()) or bool(x.isfinite().all())


def check_tokens(tokens: Tokens) -> None:
    """Raises TokensError, naming the image, for a field whose grid is not that of the geometry, or that is not finite."""
    for name, x in tokens.fields.items():
        expected: tuple[int, ...] = (len(tokens.keys), *tokens.geometry.grid_hw)
        found: tuple[int, ...] = tuple(x.shape)
        if _kind(name) in (*CLS_FIELDS, "registers"):
            expected = expected[:1]
            found = found[:1]
        else:  # maps have channels last, those with one map per block or head first
            found = found[:3] if _kind(name) in (*GRID_FIELDS, "pixels", "flags") else (*found[:1], *found[-2:])
        if found != expected:
            raise TokensError(
                f"field {name!r} has shape {tuple(x.shape)}, but there are {expected[0]} images of "
                f"{' x '.join(map(str, tokens.geometry.grid_hw))} cells",
                "a repair keeps number and order of the patches",
            )
        if x.is_floating_point() and not finite(x):
            bad = int((~x.isfinite()).flatten(1).any(1).nonzero()[0, 0])
            raise TokensError(f"image {tokens.keys[bad]!r}: field {name!r} is not finite", _REMEDY)


def _kind(name: str) -> str:
    return parse_field(name).kind
