"""Metrics: one file per kind, each with functions that make statistics per unit and `MEASURES` computed from their sums."""

from __future__ import annotations

import importlib

from vitbench.records.rows import Measure


def measures(kind: str) -> tuple[Measure, ...]:
    """The measures of a metric kind (`segmentation`, `depth`, `boxes`, ...): the module's MEASURES."""
    found: tuple[Measure, ...] = importlib.import_module(f"vitbench.metrics.{kind}").MEASURES
    return found
