"""What the checks of repairs share: what an edit and a fit may give, and comparing states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.errors import RepairError
from vitbench.repairs.base import Repair, State
from vitbench.tokens.promises import TOLERANCE, ContractError, same

# Parameters whose zero means: leave tokens as they are.
STRENGTHS = ("m", "k", "strength", "epsilon", "top_k", "blocks")


def edited(repair: Repair[Any], backbone: Backbone, state: State) -> Backbone:
    """The backbone as a repair edits it. Raises RepairError where it gives something else back."""
    found: Any = repair.edit(backbone, state)
    if not isinstance(found, Backbone):
        raise RepairError(
            f"repair {repair.card.name!r}: edit gave a {type(found).__name__}",
            "return a backbone, such as backbone.edited(...)",
        )
    return found


def storable(state: Any, repair: str) -> dict[str, Tensor]:
    """A state as it is written to a file: tensors of their own memory. Raises RepairError for anything else."""
    if not isinstance(state, Mapping):
        raise RepairError(
            f"repair {repair!r}: fit gave a {type(state).__name__}, no state", "return a dict of tensors by name"
        )
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise RepairError(
                f"repair {repair!r}: fit gave a {type(value).__name__} for {key!r}", "a state holds tensors by name"
            )
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise RepairError(f"repair {repair!r}: {key!r} of its fit is not finite", "look for divisions by zero")
    return {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}


def same_states(a: Mapping[str, State], b: Mapping[str, State], problem: str, tolerance: float = TOLERANCE) -> None:
    """Raises ContractError with the problem where states of the same fields differ."""
    for name in a:
        if set(a[name]) != set(b[name]):
            raise ContractError(f"{problem}: {name} has {sorted(a[name])} and {sorted(b[name])}")
        for key in a[name]:
            same(a[name][key], b[name][key], f"{problem} ({name}, {key})", tolerance)
