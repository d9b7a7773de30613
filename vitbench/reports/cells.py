"""Entries become cells: one (backbone, repair) in one table, its seeds taken together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from vitbench.catalogue import BACKBONES, REPAIRS, TASKS
from vitbench.catalogue.resolve import expand_tasks, is_stochastic
from vitbench.errors import UsageError
from vitbench.records.index import Entry
from vitbench.records.inference import Difference, Estimate, combine_seeds, interval_of, paired_difference
from vitbench.selection import parse_chain, split_outside

Section = Literal["model", "defect", "control"]


@dataclass(frozen=True)
class Cell:
    """The records of one backbone and repair in one table, ordered by seed; `missing` are seeds without a number."""

    backbone: str
    repair: str
    measured: tuple[Entry, ...]
    missing: int = 0

    @cached_property
    def estimate(self) -> Estimate | None:
        """The mean over seeds with nested replicates; None where nothing has a value."""
        return self._combined(self.seeds)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that have a value."""
        return tuple(e.slot.seed for e in self.measured if e.value is not None)

    @cached_property
    def seedless(self) -> bool:
        """Measured once because nothing in it is random: its number stands for every seed."""
        slot = self.measured[0].slot if self.measured else None
        return len(self.seeds) == 1 and slot is not None and not is_stochastic(slot.repair, slot.task)

    def over(self, seeds: Sequence[int]) -> Estimate | None:
        """The estimate over some of the seeds."""
        return self.estimate if self.seedless or seeds == self.seeds else self._combined(seeds)

    def _combined(self, seeds: Sequence[int]) -> Estimate | None:
        found = [e.estimate for e in self.measured if e.slot.seed in seeds]
        values = [e for e in found if e is not None]
        return combine_seeds(values) if values else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval: as recorded for one seed, nested over several."""
        if len(self.seeds) == 1:
            low, high = next((e.ci_low, e.ci_high) for e in self.measured if e.value is not None)
            return None if low is None or high is None else (low, high)
        return interval_of(self.estimate) if self.estimate else None


def common(*cells: Cell) -> list[Estimate] | None:
    """The estimates of several cells over the seeds that all of them have; None where there is none."""
    random = [c for c in cells if not c.seedless] or list(cells)
    shared = tuple(s for s in random[0].seeds if all(s in c.seeds for c in random[1:]))
    found = [e for c in cells if (e := c.over(shared)) is not None]
    if not shared or len(found) < len(cells):
        return None
    return [combine_seeds([e] * len(shared)) if c.seedless else e for c, e in zip(cells, found, strict=True)]


def difference(a: Cell, b: Cell) -> Difference | None:
    """a - b, paired seed by seed and unit by unit."""
    pair = common(a, b)
    return None if pair is None else paired_difference(*pair)


def tables(entries: Iterable[Entry]) -> list[tuple[str, str, int, list[Entry]]]:
    """Measured entries by (task, dataset, variant), tasks in catalogue order.

    Numbers of other protocol versions or other images are a variant of their own (0 holds most of the records): they
    never share a table.
    """
    grouped: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        grouped[entry.slot.task, entry.slot.dataset].append(entry)
    out = []
    for (task, dataset), members in sorted(grouped.items(), key=lambda item: (task_order(item[0][0]), item[0])):
        counts = Counter((e.slot.seed, e.comparable) for e in members)
        by_seed: dict[int, list[str]] = defaultdict(list)
        for (seed, comparable), _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            by_seed[seed].append(comparable)
        variants: dict[int, list[Entry]] = defaultdict(list)
        for e in members:
            variants[by_seed[e.slot.seed].index(e.comparable)].append(e)
        out += [(task, dataset, variant, variants[variant]) for variant in sorted(variants)]
    return out


def cells(entries: Iterable[Entry], missing: Counter[tuple[str, str]]) -> list[Cell]:
    """Entries of one table as cells; `missing` counts the seeds without a record by (backbone, repair)."""
    grouped: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for e in entries:
        grouped[e.slot.backbone, e.slot.repair].append(e)
    return [Cell(*key, tuple(sorted(found, key=lambda e: e.slot.seed)), missing[key]) for key, found in grouped.items()]


def base_of(backbone: str) -> str:
    """The backbone without its planted defects."""
    return split_outside(backbone, "+")[0]


def section_of(backbone: str) -> Section:
    """Where a backbone stands in tables. A name that is not registered here is a model."""
    base = base_of(backbone)
    name = base.partition("[")[0]
    if name in BACKBONES and BACKBONES.get(name).kind == "control":
        return "control"
    return "model" if base == backbone else "defect"


def is_control_repair(repair: str) -> bool:
    """Whether any step of a chain is a negative control."""
    try:
        names = [term.name for term in parse_chain(repair)]
    except UsageError:
        return False
    return any(name in REPAIRS and REPAIRS.get(name).role == "control" for name in names)


def task_order(task: str) -> int:
    """The position of a task in the catalogue; unknown ones come last."""
    names = TASKS.names()
    name = task.partition("@")[0]
    return names.index(name) if name in names else len(names)


def family_of(task: str) -> str:
    """The family of a task; of one that is not registered here, `other`."""
    name = task.partition("@")[0]
    return TASKS.get(name).family if name in TASKS else "other"


def is_averaged(task: str) -> bool:
    """Whether a task's headline may enter a mean over tasks.

    Probes and diagnostics describe, they are not goals; what is chosen on the test split is an upper bound.
    """
    if family_of(task) in ("probe", "diagnostic"):
        return False
    try:
        found = expand_tasks(task)
    except UsageError:
        return True  # of a plugin that is not loaded, or with settings of another version
    return not any(
        ref.protocol.selection == "oracle" or getattr(ref.settings, "choose_on", "") == "test" for ref in found
    )
