"""The two keys: slot (names and parameters: what is compared) and identity (all that changes the number: what is cached).

The same functions compute both from a plan and from a record.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, order=True)
class Slot:
    """Names and parameters of a cell. `task` is `task@protocol`, with overridden settings in brackets."""

    backbone: str
    repair: str
    task: str
    dataset: str
    seed: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks; the text whose digest is the identity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """16 hex digits of the sha256 of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def cell_identity(slot: Slot, components: dict[str, Any]) -> str:
    """Identity of a cell: its slot and the components that change its number."""
    return digest({"slot": slot.as_dict(), "components": components})


def differing(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the components in which two identities differ, for the message of `compare`."""
    out: list[str] = []
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key), b.get(key)
        if isinstance(x, dict) and isinstance(y, dict):
            out += differing(x, y, f"{prefix}{key}.")
        elif x != y:
            out.append(f"{prefix}{key}")
    return out
