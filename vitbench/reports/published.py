"""Published values of cells, to stand beside measured ones (`benchmarks/published/matched.csv`, keyed by `rekey.py`)."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitbench.catalogue import BACKBONES, DATASETS, TASKS
from vitbench.errors import UsageError
from vitbench.paths import benchmarks_dir

Key = tuple[str, str, str, str, str]
"""Backbone, repair, task@protocol, data set, metric."""

_PART = 0.01  # of a split, that may be unreadable or without a target
_TRUST = ("paper", "readme", "csv", "log", "issue", "secondary")


@dataclass(frozen=True)
class Reference:
    """A published value in the unit of its metric. confidence: how it was read (paper, readme, ..., secondary).

    noise: half width of the 95 % interval over repeated runs, where the source gives it. flag: what makes it suspect.
    """

    value: float
    source: str
    confidence: str
    noise: float | None = None
    flag: str = ""

    def gap_in_noise(self, measured: float) -> float | None:
        """measured - published in units of the known run-to-run noise."""
        return (measured - self.value) / self.noise if self.noise else None


def load_published(path: Path | None = None) -> dict[Key, tuple[Reference, ...]]:
    """All references by key; those with a known noise and the best confidence first. Raises UsageError naming the line."""
    path = path or benchmarks_dir() / "published" / "matched.csv"
    found: dict[Key, list[Reference]] = defaultdict(list)
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                key = (row["backbone"], row["repair"], row["task"], row["dataset"], row["metric"])
                found[key].append(_reference(row))
            except (KeyError, ValueError) as error:
                raise UsageError(f"{path}, line {number}: {error}", "write it anew with rekey.py") from None
    return {key: tuple(sorted(members, key=_order)) for key, members in found.items()}


def known_of(published: Mapping[Key, tuple[Reference, ...]], key: Key) -> tuple[Reference, ...]:
    """What is published of a cell. The `registers` repair runs a twin, of which values are published under its own name."""
    backbone, repair, *rest = key
    if repair == "registers" and backbone in BACKBONES and (twin := BACKBONES.get(backbone).register_twin):
        task, dataset, metric = rest
        return published.get((twin, "none", task, dataset, metric), ())
    return published.get(key, ())


def is_whole(task: str, dataset: str, groups: int) -> bool:
    """Whether so many groups can be a whole split of the data set, not what `--limit` left of it.

    Where groups are no images (clips), or nothing is known of the data set, it is taken to be.
    """
    name = task.partition("@")[0]
    if dataset not in DATASETS or (name in TASKS and TASKS.get(name).family in ("video", "correspondence")):
        return True
    sizes = [size for size in DATASETS.get(dataset).splits.values() if size]
    return not sizes or any(abs(groups - size) <= _PART * size for size in sizes)


def _reference(row: Mapping[str, str]) -> Reference:
    if row["confidence"] not in _TRUST:
        raise ValueError(f"unknown confidence {row['confidence']!r}")
    noise = float(row["noise"]) if row["noise"] else None
    return Reference(float(row["value"]), row["source"], row["confidence"], noise, row["flag"])


def _order(reference: Reference) -> tuple[object, ...]:
    return bool(reference.flag), reference.noise is None, _TRUST.index(reference.confidence), reference.source
