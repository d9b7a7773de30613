"""A token stream held in memory, for measurements that need no cache and no record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vitbench.tasks.base import Batch


@dataclass
class MemoryStream:
    """Ready batches, in order."""

    batches: Sequence[Batch]
    split: str = "val"

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for batch in self.batches for key in batch.tokens.keys)
