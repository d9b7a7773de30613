"""What the checks of repairs share: the error of a broken promise, and comparing tensors and states."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vitbench.errors import VitbenchError
from vitbench.repairs.base import State

# Parameters whose zero means: leave tokens as they are.
STRENGTHS = ("m", "k", "strength", "epsilon", "top_k", "blocks")
TOLERANCE = 1e-5


class ContractError(VitbenchError):
    """A repair that breaks one of the promises of DESIGN 4.2."""

    exit_code = 1


def same(a: Tensor, b: Tensor, problem: str, tolerance: float = TOLERANCE) -> None:
    """Raises ContractError with the problem where two tensors differ."""
    if a.shape != b.shape:
        raise ContractError(f"{problem}: shapes {tuple(a.shape)} and {tuple(b.shape)}")
    if not torch.allclose(a, b, rtol=tolerance, atol=tolerance):
        raise ContractError(f"{problem}: largest difference {float((a - b).abs().max()):.3g}")


def same_states(a: Mapping[str, State], b: Mapping[str, State], problem: str, tolerance: float = TOLERANCE) -> None:
    """Raises ContractError with the problem where states of the same fields differ."""
    for name in a:
        if set(a[name]) != set(b[name]):
            raise ContractError(f"{problem}: {name} has {sorted(a[name])} and {sorted(b[name])}")
        for key in a[name]:
            same(a[name][key], b[name][key], f"{problem} ({name}, {key})", tolerance)
