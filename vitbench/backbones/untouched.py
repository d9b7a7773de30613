"""Whether a module is as it was: a repair that writes into the weights or leaves a hook would change every cell after it."""

from __future__ import annotations

from torch import nn


def fingerprint(module: nn.Module | None) -> tuple[object, ...]:
    """What tells a changed module from itself: the sums of its tensors, its hooks, and methods that were shadowed.

    Reads the weights once. Other values of the same sum are not told apart.
    """
    if module is None:
        return ()
    sums = tuple(
        (name, float(value.double().sum())) for name, value in module.state_dict().items() if value.is_floating_point()
    )
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
    shadowed = sum("forward" in vars(m) for m in module.modules())
    return (*sums, hooks, shadowed)
