"""Planted defects: artefacts of known kind and strength in any ViT, `NAME+DEFECT[strength=...]`, with the clean twin known.

Scales are calibrated on the ViT itself, with seeded scenes that are in no split; nothing depends on the data measured.
Strength 0 is the clean backbone. The field `flags` marks the tokens that are hit, at strength 0 those that would be.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from vitbench.backbones.base import Backbone
from vitbench.backbones.vit import ViT
from vitbench.catalogue import DEFECTS
from vitbench.catalogue.suited import not_planted
from vitbench.selection import Term, overrides, parse_chain, with_params


def plant_all(backbone: Backbone, defects: str) -> Backbone:
    """The backbone with every defect of a text such as `grid[site=input]+outliers`, planted in that order."""
    for term in parse_chain(defects):
        backbone = plant(backbone, term)
    return backbone


def plant(backbone: Backbone, term: Term) -> Backbone:
    """The backbone with one defect, on the same device and dtype; the given one stays clean.

    Raises UsageError for an unknown defect or parameter, NotApplicableError for a backbone that is no ViT.
    """
    card = DEFECTS.get(term.name)
    params: Any = with_params(card.params, term, "defect")
    if not isinstance(backbone, ViT):
        raise not_planted(term.name, backbone.card.name)
    planted = cast(ViT, DEFECTS.load(term.name)(backbone, params))
    # A clean twin with registers repairs nothing that was planted.
    name = f"{backbone.card.name}+{Term(card.name, overrides(card.params, params))}"
    planted.card = replace(backbone.card, name=name, register_twin="")
    return planted
