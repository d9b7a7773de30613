"""Cards of the repairs, each with its parameters."""

from __future__ import annotations

from vitbench.catalogue.cards import RepairCard

REPAIR_CARDS: tuple[RepairCard, ...] = ()
