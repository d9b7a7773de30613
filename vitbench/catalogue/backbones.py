"""Cards of the backbones."""

from __future__ import annotations

from vitbench.catalogue.cards import BackboneCard

BACKBONE_CARDS: tuple[BackboneCard, ...] = ()
