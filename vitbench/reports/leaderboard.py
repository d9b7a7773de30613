"""The leaderboard as data: per table value, paired difference to the baseline, rank interval, recovery and cost.

Pure and deterministic: the same entries give the same leaderboard. Tables are never averaged over failed cells, planted
defects or numbers of other protocol versions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitbench.identity import Slot
from vitbench.records.collector import collector_paused
from vitbench.records.index import Entry, Loaded
from vitbench.records.inference import (
    ALPHA,
    MIN_GAP_POINTS,
    Difference,
    Recovery,
    benjamini_hochberg,
    paired_differences,
    recovery,
)
from vitbench.records.ranks import shared_ranks
from vitbench.reports.cells import (
    Cell,
    Section,
    base_of,
    cells,
    common,
    difference,
    is_averaged,
    is_control_repair,
    section_of,
    tables,
)
from vitbench.reports.published import Key, Reference, is_whole, known_of

SECTIONS: tuple[Section, ...] = ("model", "defect", "control")
CellKey = tuple[str, str]
"""Backbone and repair: a row within a table."""
Wanted = Callable[[str, str, str, str], bool]
"""Whether to show the row of (backbone, repair, task, dataset)."""


@dataclass(frozen=True)
class Row:
    """One backbone with one repair in one table. Numbers are in the table's unit; None where there is none.

    difference: to the baseline repair on the same backbone; p_adjusted: Benjamini-Hochberg over the table.
    damage: clean - defective, for the unrepaired row of a planted defect. rank: best and worst not excluded.
    published: values of the same cell in the literature, the most trusted first.
    """

    section: Section
    backbone: str
    repair: str
    control: bool
    value: float | None
    ci_low: float | None
    ci_high: float | None
    groups: int
    seeds: int
    incomplete: bool
    note: str = ""
    difference: Difference | None = None
    p_adjusted: float | None = None
    mark: str = ""
    damage: Difference | None = None
    recovery: Recovery | None = None
    rank: tuple[int, int] | None = None
    forwards_per_image: float | None = None
    fit_seconds: float | None = None
    extra_parameters: float | None = None
    peak_memory_bytes: float | None = None
    flags: tuple[str, ...] = ()
    published: tuple[Reference, ...] = ()


@dataclass(frozen=True)
class Table:
    """One task@protocol on one dataset, in one version of the protocol. Rows are in reading order.

    variant > 0: a further version of protocol or images under the same name; `averaged`: may enter means over tasks.
    """

    task: str
    dataset: str
    variant: int
    metric: str
    unit: str
    higher_is_better: bool
    averaged: bool
    rows: tuple[Row, ...]
    version: str = ""


@dataclass(frozen=True)
class Missing:
    """A cell without a number, and why."""

    slot: Slot
    status: str
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Leaderboard:
    """All tables, what is missing from them, and where the records come from."""

    baseline: str
    tables: tuple[Table, ...]
    missing: tuple[Missing, ...]
    records: int
    superseded: int = 0
    problems: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    first_utc: str = ""
    last_utc: str = ""


@collector_paused()
def build(
    loaded: Loaded,
    baseline: str = "none",
    planned: Collection[Slot] = (),
    published: Mapping[Key, tuple[Reference, ...]] | None = None,
    wanted: Wanted | None = None,
) -> Leaderboard:
    """Tables from current records. `planned` (of a suite) are listed as "not run" where no record is.

    published: values to stand beside those measured under the same protocol. wanted: which rows to show, and which
    tables to make therefore. No number depends on what else is shown: p stays adjusted over all differences of a table
    and ranks are among all of its rows, or a finding could be made significant by looking at it alone.
    """
    entries = loaded.entries
    absent = [Missing(s, "not run", "no record") for s in sorted(set(planned) - {e.slot for e in entries})]
    failed = [Missing(e.slot, e.status, e.reason, e.remedy) for e in entries if e.status != "ok"]
    nulls = [
        Missing(e.slot, "null", e.note or "the headline is undefined")
        for e in entries
        if e.status == "ok" and e.value is None
    ]
    measured = [e for e in entries if e.status == "ok"]
    lacking = Counter((m.slot.task, m.slot.dataset, m.slot.backbone, m.slot.repair) for m in (*absent, *failed, *nulls))
    hit = {(e.slot.task, e.slot.dataset) for e in measured if _is_wanted(e.slot, wanted)}
    made = []
    for task, dataset, variant, members in tables(e for e in measured if (e.slot.task, e.slot.dataset) in hit):
        shown = {(e.slot.backbone, e.slot.repair) for e in members if _is_wanted(e.slot, wanted)}
        if shown:
            counts = Counter({key[2:]: n for key, n in lacking.items() if key[:2] == (task, dataset)})
            table = _table(task, dataset, variant, members, counts, baseline, shown)
            made.append(_with_published(table, published) if published else table)
    utc = sorted(e.utc for e in entries if e.utc)
    return Leaderboard(
        baseline=baseline,
        tables=tuple(made),
        missing=tuple(
            sorted(
                (m for m in (*absent, *failed, *nulls) if _is_wanted(m.slot, wanted)),
                key=lambda m: (m.status, m.reason, m.slot),
            )
        ),
        records=len(entries),
        superseded=loaded.superseded,
        problems=tuple(problem.message for problem in loaded.problems),
        commits=tuple(sorted({f"{e.commit[:10]}{' (modified)' if e.dirty else ''}" for e in measured if e.commit})),
        first_utc=utc[0] if utc else "",
        last_utc=utc[-1] if utc else "",
    )


def _is_wanted(slot: Slot, wanted: Wanted | None) -> bool:
    return wanted is None or wanted(slot.backbone, slot.repair, slot.task, slot.dataset)


def _table(
    task: str,
    dataset: str,
    variant: int,
    entries: Sequence[Entry],
    missing: Counter[CellKey],
    baseline: str,
    shown: Collection[CellKey],
) -> Table:
    """One table with the rows of `shown`; the others count in adjusted p, ranks and the order of backbones alone."""
    first = entries[0]
    up = first.higher_is_better
    by_key = {(c.backbone, c.repair): c for c in cells(entries, missing)}
    changes = _changes(by_key, baseline, shown)
    sections = {backbone: section_of(backbone) for backbone in {key[0] for key in by_key}}
    seeds = {s for cell in by_key.values() if not cell.seedless for s in cell.seeds}
    marks, ranks = _marks(changes, up), _ranks(by_key, sections, up, shown)
    controls = {repair: is_control_repair(repair) for repair in {key[1] for key in by_key}}
    rows = []
    for key, cell in by_key.items():
        if key not in shown:
            continue
        section = sections[cell.backbone]
        q, mark = marks.get(key, (None, ""))
        rows.append(
            Row(
                section=section,
                backbone=cell.backbone,
                repair=cell.repair,
                control=section == "control" or controls[cell.repair],
                **_measured(cell, seeds),
                **_against_clean(cell, by_key, baseline, first.unit, up, section),
                difference=changes.get(key),
                p_adjusted=q,
                mark=mark,
                rank=ranks.get(key),
            )
        )
    plain = {b: c.estimate.value for (b, repair), c in by_key.items() if repair == baseline and c.estimate}
    ordered = _ordered(rows, plain, baseline, up)
    head = task, dataset, variant, first.metric, first.unit, up, is_averaged(task)
    return Table(*head, tuple(ordered), first.version)


def _changes(by_key: Mapping[CellKey, Cell], baseline: str, shown: Collection[CellKey]) -> dict[CellKey, Difference]:
    """The paired difference of every repaired cell to the baseline on its backbone, with intervals where shown."""
    pairs = {}
    for key, cell in by_key.items():
        plain = by_key.get((cell.backbone, baseline))
        if plain is not None and plain is not cell and (pair := common(cell, plain)) is not None:
            pairs[key] = (pair[0], pair[1])
    seen = [key in shown for key in pairs]
    return dict(zip(pairs, paired_differences(list(pairs.values()), seen), strict=True))


def _with_published(table: Table, published: Mapping[Key, tuple[Reference, ...]]) -> Table:
    """The rows with what is published of them; further versions of a protocol, or a part of its images, are not that."""
    if table.variant:
        return table

    def known(row: Row) -> tuple[Reference, ...]:
        if not is_whole(table.task, table.dataset, row.groups):
            return ()
        return known_of(published, (row.backbone, row.repair, table.task, table.dataset, table.metric))

    return replace(table, rows=tuple(replace(r, published=known(r)) if known(r) else r for r in table.rows))


def _measured(cell: Cell, seeds: Collection[int]) -> dict[str, Any]:
    """What a row says of its own cell. seeds: those of any row of the table, one without them lacks some."""
    estimate, interval, entries = cell.estimate, cell.interval, cell.measured
    return {
        "value": estimate.value if estimate else None,
        "ci_low": interval[0] if interval else None,
        "ci_high": interval[1] if interval else None,
        "groups": max((e.n for e in entries), default=0),
        "seeds": len(cell.seeds),
        "incomplete": cell.missing > 0 or not (cell.seedless or set(cell.seeds) >= set(seeds)),
        "note": next((e.note for e in entries if e.note), ""),
        "forwards_per_image": _mean([e.forwards_per_image for e in entries]),
        "fit_seconds": _mean([e.fit_seconds for e in entries]),
        "extra_parameters": _mean([e.extra_parameters for e in entries]),
        "peak_memory_bytes": max((e.peak_memory_bytes for e in entries if e.peak_memory_bytes), default=None),
        "flags": tuple(sorted({flag for e in entries for flag in e.flags})),
    }


def _against_clean(
    cell: Cell, by_key: Mapping[CellKey, Cell], baseline: str, unit: str, up: bool, section: Section
) -> dict[str, Any]:
    """What a planted defect costs its backbone, and what a repair wins back of it."""
    clean = by_key.get((base_of(cell.backbone), baseline)) if section == "defect" else None
    if clean is None:
        return {}
    if cell.repair == baseline:
        return {"damage": difference(clean, cell)}
    plain = by_key.get((cell.backbone, baseline))
    return {"recovery": _recovery(cell, plain, clean, unit, up) if plain else None}


def _recovery(repaired: Cell, defective: Cell, clean: Cell, unit: str, up: bool) -> Recovery | None:
    found = common(repaired, defective, clean)
    if found is None:
        return None
    fixed, damaged, whole = found
    return recovery(fixed, damaged, whole, min_gap(unit, whole.value), up)


def min_gap(unit: str, clean: float) -> float:
    """Two points, in a metric's unit: of a percentage or fraction as such, of others relative to the clean value."""
    if unit == "%":
        return MIN_GAP_POINTS
    return MIN_GAP_POINTS / 100 * (1.0 if unit == "fraction" else abs(clean))


def _ranks(
    by_key: Mapping[CellKey, Cell], sections: Mapping[str, Section], up: bool, shown: Collection[CellKey]
) -> dict[CellKey, tuple[int, int]]:
    """Ranks among models and controls; planted defects do not compete."""
    contenders = {key: cell for key, cell in by_key.items() if sections[key[0]] != "defect"}
    estimates = {key: e for key, cell in contenders.items() if (e := cell.estimate) is not None}
    if any(e.draws is None for e in estimates.values()):
        return {}  # without resamples, nothing says which ranks are shared
    seen = [key in shown for key in estimates]
    ranks = shared_ranks(list(estimates.values()), up, seen)
    return dict(zip([key for key in estimates if key in shown], ranks, strict=True))


def _marks(changes: Mapping[CellKey, Difference], up: bool) -> dict[CellKey, tuple[float, str]]:
    """Adjusted p over all differences of the table, and ▲ better, ▼ worse, · not told apart."""
    tested = {key: (change, change.p) for key, change in changes.items() if change.p is not None}
    adjusted = benjamini_hochberg([p for _, p in tested.values()])
    out = {}
    for (key, (change, _)), q in zip(tested.items(), adjusted, strict=True):
        out[key] = float(q), ("▲" if (change.delta > 0) == up else "▼") if q < ALPHA else "·"
    return out


def _ordered(rows: list[Row], plain: Mapping[str, float], baseline: str, up: bool) -> list[Row]:
    """Models, then planted defects, then controls; backbones by their baseline, its repairs by value, best first."""

    def goodness(value: float | None) -> tuple[bool, float]:
        return value is None, 0.0 if value is None else (-value if up else value)

    def key(row: Row) -> tuple[object, ...]:
        block = (*goodness(plain.get(row.backbone)), row.backbone)
        return SECTIONS.index(row.section), *block, row.repair != baseline, *goodness(row.value), row.repair

    return sorted(rows, key=key)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
