"""Which columns of a sample a task is given: the targets that its card names, and what belongs to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def named(sample: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The named targets of a sample, and what belongs to them: `boxes_track` with `boxes`."""
    return {n: sample[n] for n in sample if n in names or n.rpartition("_")[0] in names}
