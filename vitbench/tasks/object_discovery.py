"""Object discovery: LOST's box per image against the true boxes, beside the boxes that need no model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.fields import parse_field
from vitbench.catalogue.tasks.discovery import OBJECT_DISCOVERY, LostSettings
from vitbench.errors import TokensError
from vitbench.metrics.boxes import localisation
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext, TokenStream
from vitbench.tasks.lost import lost_boxes
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


class ObjectDiscovery(Task[LostSettings]):
    """No fit. Images without true boxes are left out of every share, and counted."""

    card: ClassVar[TaskCard] = OBJECT_DISCOVERY

    def measure(self, head: None, test: TokenStream, context: TaskContext) -> Rows:
        units, s = UnitRows(), self.settings
        for batch in test:
            geometry = batch.tokens.geometry
            found = lost_boxes(lost_field(batch.tokens, s.field), s.k, s.gram_bias, s.centre)
            for i, key in enumerate(batch.tokens.keys):
                box = geometry.to_pixels(i, found.boxes[i])[0]
                truth = np.asarray(batch.targets[i]["boxes"], np.float32).reshape(-1, 4)
                stats = localisation(box, truth, geometry.placements[i].source_hw)
                outside = float(found.outside[i]) * stats["n"]
                units.add(key, {**stats, "seed_outside": outside, "box": box})
        return units.rows()

    def flags(self, head: None, rows: Rows) -> Mapping[str, Any]:
        without = int(rows.stats["n_without"].sum())
        return {"images_with_boxes": len(rows) - without, "images_without_boxes": without}
