"""Cards of the data sets."""

from __future__ import annotations

from vitbench.catalogue.cards import DatasetCard

DATASET_CARDS: tuple[DatasetCard, ...] = ()
