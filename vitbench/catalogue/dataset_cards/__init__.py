"""Cards of the data sets that are obtained from somewhere, by kind. What is not known for sure is left empty."""

from __future__ import annotations

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.dataset_cards.classification import CLASSIFICATION_SETS
from vitbench.catalogue.dataset_cards.depth import DEPTH_SETS
from vitbench.catalogue.dataset_cards.objects import OBJECT_SETS
from vitbench.catalogue.dataset_cards.segmentation import SEGMENTATION_SETS

RELEASED: tuple[DatasetCard, ...] = (*SEGMENTATION_SETS, *DEPTH_SETS, *OBJECT_SETS, *CLASSIFICATION_SETS)
