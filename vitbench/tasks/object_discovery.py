"""Object discovery: one box per image against the true boxes, beside the boxes that need no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.fields import parse_field
from vitbench.catalogue.tasks.discovery import (
    OBJECT_DISCOVERY,
    BoxSettings,
    LostNormSettings,
    LostSettings,
    SweptSettings,
    TokenCutSettings,
)
from vitbench.errors import TokensError
from vitbench.metrics.boxes import localisation
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.lost import LostBoxes, lost_boxes
from vitbench.tasks.lost_swept import choose, fold_of, variant_boxes
from vitbench.tasks.tokencut import tokencut_boxes
from vitbench.tasks.true_boxes import true_boxes
from vitbench.tasks.units import UnitRows
from vitbench.tokens.types import Tokens


def lost_field(tokens: Tokens, asked: str) -> Tensor:
    """The field asked for; for `auto` the first query, key or value field there is, which is what the plan resolved it to."""
    if asked != "auto":
        return tokens[asked]
    for name in tokens.fields:
        if parse_field(name).kind in ("query", "key", "value"):
            return tokens[name]
    raise TokensError("object discovery needs a query, key or value field", f"there are {', '.join(tokens.fields)}")


def find_boxes(tokens: Tokens, s: BoxSettings) -> LostBoxes:
    """The boxes of a batch by the method of the settings."""
    if isinstance(s, TokenCutSettings):
        return tokencut_boxes(lost_field(tokens, s.field), s.tau)
    if isinstance(s, LostNormSettings):
        return lost_boxes(tokens[s.field], s.k, seed_by_norm=True)
    assert isinstance(s, LostSettings)
    return lost_boxes(lost_field(tokens, s.field), s.k, s.gram_bias, s.centre, unit=s.unit, binary=s.binary)


class ObjectDiscovery(Task[BoxSettings]):
    """No fit. Images without true boxes are left out of every share, and counted."""

    card: ClassVar[TaskCard] = OBJECT_DISCOVERY

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        if isinstance(self.settings, SweptSettings):
            return self._swept(units, test, self.settings)
        for batch in test:
            found = find_boxes(batch.tokens, self.settings)
            for i in range(len(batch.tokens.keys)):
                _add(units, batch, i, found, self.settings.no_hard)
        return units.rows()

    @staticmethod
    def _swept(units: UnitRows, test: TokenStream, s: SweptSettings) -> Rows:
        chosen = choose(test, s)
        for batch in test:
            found = dict(variant_boxes(batch, list(dict.fromkeys(chosen)), s.k))
            for i, key in enumerate(batch.tokens.keys):
                _add(units, batch, i, found[chosen[fold_of(key)]], s.no_hard)
        return units.rows({"selected": [str(v) for v in chosen]})

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        without = int(rows.stats["n_without"].sum())
        selected = {name: rows.info[name] for name in ("selected",) if name in rows.info}
        # Such a CorLoc is that of the whole image, or of a single cell, whatever the backbone: tables mark it.
        marks = {"mostly_whole_image_boxes": "degenerate", "mostly_nothing_to_cut": "alike"}
        half = (len(rows) - without) / 2
        marked = {name: True for name, stat in marks.items() if rows.stats[stat].sum() > half}
        return {"images_with_boxes": len(rows) - without, "images_without_boxes": without, **selected, **marked}


def _add(units: UnitRows, batch: Batch, i: int, found: LostBoxes, no_hard: bool) -> None:
    geometry = batch.tokens.geometry
    box = geometry.to_pixels(i, found.boxes[i])[0]
    stats = localisation(box, true_boxes(batch.targets[i], no_hard), geometry.placements[i].source_hw)
    outside = float(found.outside[i]) * stats["n"]
    alike = 0.0 if found.alike is None else float(found.alike[i]) * stats["n"]
    units.add(batch.tokens.keys[i], {**stats, "seed_outside": outside, "alike": alike, "box": box})
