"""What a backbone is asked for (`TokenRequest`) and what it gives (`Tokens`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vitbench.catalogue.fields import GRID_FIELDS, joined_fields, parse_field
from vitbench.catalogue.views import View
from vitbench.errors import TokensError
from vitbench.tokens.geometry import Geometry


@dataclass(frozen=True)
class TokenRequest:
    """Field names (grammar: `vitbench.catalogue.fields`) and the view; one forward serves all fields."""

    fields: tuple[str, ...]
    view: View = field(default_factory=lambda: View("whole"))

    def __post_init__(self) -> None:
        for name in self.fields:
            parse_field(name)


@dataclass(frozen=True)
class Tokens:
    """Fields of a batch. Grids are b h w c; prefix tokens are separate fields; `keys` are stable sample ids."""

    fields: Mapping[str, Tensor]
    geometry: Geometry
    keys: tuple[str, ...]

    def __getitem__(self, name: str) -> Tensor:
        """A field; names joined by `+` (see `joined_fields`) are concatenated on channels, image fields beside every patch."""
        if name in self.fields:
            return self.fields[name]
        parts = joined_fields(name)
        if missing := [part for part in parts if part not in self.fields]:
            raise TokensError(
                f"tokens have no field {missing[0]!r}, only {', '.join(self.fields) or 'none'}",
                "a repair says in `needs` of its card what else it reads, a task in `aux`",
            )
        if len(parts) == 1:
            return self.fields[parts[0]]
        h, w = self.geometry.grid_hw
        values = [self.fields[part] for part in parts]
        return torch.cat([v if v.ndim == 4 else v[:, None, None].expand(-1, h, w, -1) for v in values], dim=-1)

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def __len__(self) -> int:
        return len(self.keys)

    def with_field(self, name: str, value: Tensor) -> Tokens:
        """The same tokens with one field replaced; batch and grid must stay as they are (channels may change)."""
        old = self[name]
        grid = 3 if parse_field(name).kind in GRID_FIELDS else 1
        if value.shape[:grid] != old.shape[:grid]:
            raise TokensError(f"field {name!r}: shape {tuple(value.shape)} does not keep {tuple(old.shape[:grid])}")
        return replace(self, fields={**self.fields, name: value})

    def select(self, indices: list[int]) -> Tokens:
        """The samples of the given positions, in that order."""
        return Tokens(
            {name: value[indices] for name, value in self.fields.items()},
            self.geometry.select(indices),
            tuple(self.keys[i] for i in indices),
        )
