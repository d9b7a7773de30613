"""Metrics: one file per kind, each with functions that make statistics per unit and `MEASURES` computed from their sums."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from vitbench.records.rows import Measure


def measures(kind: str | tuple[Measure, ...], info: Mapping[str, Any] | None = None) -> tuple[Measure, ...]:
    """The measures of a metric kind (`segmentation`, `depth`, `boxes`, ...): the module's MEASURES; a plug-in's own as given.

    With the constants of rows (`info`) also those of which there are as many as these say, such as one per block.
    """
    if not isinstance(kind, str):
        return kind
    module = importlib.import_module(f"vitbench.metrics.{kind}")
    found: tuple[Measure, ...] = module.MEASURES
    further = getattr(module, "further_measures", None)
    return found if info is None or further is None else (*found, *further(info))
