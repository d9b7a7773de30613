"""Cards of the planted defects."""

from __future__ import annotations

from vitbench.catalogue.cards import DefectCard

DEFECT_CARDS: tuple[DefectCard, ...] = ()
