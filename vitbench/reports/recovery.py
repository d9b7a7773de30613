"""What repairs win back of planted defects: per task and metric one table, repairs down, defects across.

A repair that raises every number "recovers" damage that it never repaired (smoothing does). So beside each recovery stands
what the repair does to the clean backbone, and how far the gap between the two has closed once both are repaired. On
flagged tokens the clean twin is the same defect at strength 0, whose flags say where the defect would have been.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vitbench.catalogue import TASKS
from vitbench.catalogue.resolve import expand_backbones
from vitbench.records.index import Entry, current
from vitbench.records.inference import Difference, Recovery, paired_difference, recovery
from vitbench.records.schema import Record
from vitbench.reports.cells import Cell, base_of, cells, common, difference, is_control_repair, section_of, task_order
from vitbench.reports.leaderboard import CellKey, Wanted, min_gap
from vitbench.selection import Term, parse_chain

BASELINE = "none"
FLAGGED = "flagged_accuracy"


@dataclass(frozen=True)
class Recovered:
    """One repair on one defect. recovery: share of the damage; clean_change: what the repair does to the clean backbone.

    closed: 1 - (clean - defective, both repaired) / (clean - defective); None where the clean one was not repaired.
    """

    backbone: str
    repair: str
    control: bool
    clean: float
    defective: float
    repaired: float
    damage: Difference
    recovery: Recovery
    clean_change: Difference | None
    closed: Recovery | None
    seeds: int
    groups: int


@dataclass(frozen=True)
class RecoveryTable:
    """All repairs and defects of one task on one dataset, in one metric."""

    task: str
    dataset: str
    metric: str
    unit: str
    higher_is_better: bool
    rows: tuple[Recovered, ...]


def recovery_tables(records: Iterable[Record], wanted: Wanted = lambda *_: True) -> list[RecoveryTable]:
    """Tables of the headline of every task with planted defects, and of `flagged_accuracy` where records have it.

    wanted: which rows to make, by backbone, repair, task and dataset; tables without rows are left out.
    """
    grouped: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.status == "ok":
            grouped.setdefault((record.slot.task, record.slot.dataset), []).append(record)
    tables = []
    for (task, dataset), members in sorted(grouped.items(), key=lambda item: (task_order(item[0][0]), item[0])):
        for metric in dict.fromkeys((members[0].headline, FLAGGED)):
            entries = [Entry.of(r.model_copy(update={"headline": metric})) for r in members if _has(r, metric)]
            by_key = {(c.backbone, c.repair): c for c in cells(current(entries), Counter())}
            shown = {key for key in by_key if wanted(*key, task, dataset)}
            rows = _rows(by_key, metric, shown)
            if rows:
                first = entries[0]
                tables.append(RecoveryTable(task, dataset, metric, first.unit, first.higher_is_better, tuple(rows)))
    return tables


def _has(record: Record, metric: str) -> bool:
    return metric in record.metrics and record.metrics[metric].value is not None


def _rows(by_key: Mapping[CellKey, Cell], metric: str, shown: Collection[CellKey]) -> list[Recovered]:
    rows = []
    for backbone in dict.fromkeys(b for b, _ in by_key if section_of(b) == "defect"):
        twin = unplanted(backbone)
        clean = twin if metric == FLAGGED else base_of(backbone)
        ends = by_key.get((clean, BASELINE)), by_key.get((backbone, BASELINE))
        if backbone == twin or ends[0] is None or ends[1] is None:
            continue
        for repair in [r for b, r in by_key if b == backbone and r != BASELINE and (b, r) in shown]:
            row = _row(ends[0], ends[1], by_key[backbone, repair], by_key.get((clean, repair)))
            if row is not None:
                rows.append(row)
    return rows


def _row(clean: Cell, defective: Cell, repaired: Cell, repaired_clean: Cell | None) -> Recovered | None:
    found = common(clean, defective, repaired)
    if found is None:
        return None
    first = repaired.measured[0]
    whole, damaged, fixed = found
    # A probe describes: what a defect adds to it is undone as well as what it takes away.
    up = whole.value >= damaged.value if _describes(first.slot.task) else first.higher_is_better
    gap = min_gap(first.unit, whole.value)
    return Recovered(
        backbone=repaired.backbone,
        repair=repaired.repair,
        control=is_control_repair(repaired.repair),
        clean=whole.value,
        defective=damaged.value,
        repaired=fixed.value,
        damage=paired_difference(whole, damaged),
        recovery=recovery(fixed, damaged, whole, gap, up),
        clean_change=difference(repaired_clean, clean) if repaired_clean else None,
        closed=_closed(clean, defective, repaired, repaired_clean, gap, up) if repaired_clean else None,
        seeds=len(repaired.seeds),
        groups=fixed.groups,
    )


def _describes(task: str) -> bool:
    name = task.partition("@")[0]
    return name in TASKS and TASKS.get(name).family in ("probe", "diagnostic")


def _closed(
    clean: Cell, defective: Cell, repaired: Cell, repaired_clean: Cell, gap: float, up: bool
) -> Recovery | None:
    found = common(clean, defective, repaired, repaired_clean)
    if found is None:
        return None
    whole, damaged, fixed, fixed_whole = found
    if fixed.draws is None or whole.draws is None or fixed_whole.draws is None or fixed.key != fixed_whole.key:
        return None
    # The repaired backbone as it would be if the repair had not moved the clean one.
    moved = replace(
        fixed,
        value=fixed.value - fixed_whole.value + whole.value,
        draws=fixed.draws - fixed_whole.draws + whole.draws,
        seeds=tuple(a - b + c for a, b, c in zip(fixed.seeds, fixed_whole.seeds, whole.seeds, strict=True)),
    )
    return recovery(moved, damaged, whole, gap, up)


def unplanted(backbone: str) -> str:
    """The name of a defective backbone with every defect at strength 0, as records write it."""
    base, *defects = parse_chain(backbone)
    zeroed = [Term(t.name, (*((k, v) for k, v in t.params if k != "strength"), ("strength", "0"))) for t in defects]
    [name] = expand_backbones("+".join(map(str, (base, *zeroed))))
    return name


# -- how it is written ----------------------------------------------------------------------------------------------


def to_markdown(tables: Sequence[RecoveryTable], title: str) -> str:
    """Two Markdown tables per task and metric, the damage undone and the gap closed, with how to read them."""
    parts = [
        f"# {title}",
        "*Recovered*: share of the damage of a planted defect that a repair undoes, in %, with its 95 % interval over images and "
        "seeds: 0 nothing, 100 all; – where the damage is not significant or under 2 points, empty where nothing was measured "
        "or the repair is not applicable. `clean`: what the repair does to the backbone without the defect, in points. "
        "*Gap closed*: how much of the gap between the clean and the defective backbone is gone once both are repaired; a repair "
        "that raises both alike recovers, but closes nothing. ° a control, which repairs nothing. `grid` is `grid[site=late]`. A "
        "probe describes: there the damage is the change, whatever its sign.",
    ]
    for table in tables:
        seeds, groups = sorted({row.seeds for row in table.rows}), max(row.groups for row in table.rows)
        parts.append(f"## {table.task} on {table.dataset}: {table.metric}")
        parts.append(f"{groups} images; {' or '.join(map(str, seeds))} seed{'s' if seeds != [1] else ''}.")
        parts.append(_grid(table, "recovered", lambda row: row.recovery))
        if any(
            row.closed is not None for row in table.rows
        ):  # flagged tokens have no gap: the clean backbone flags none
            parts.append(_grid(table, "gap closed", lambda row: row.closed))
    return "\n\n".join(parts) + "\n"


def _grid(table: RecoveryTable, what: str, share: Callable[[Recovered], Recovery | None]) -> str:
    from tabulate import tabulate

    defects = list(dict.fromkeys(row.backbone for row in table.rows))
    found = {(row.backbone, row.repair): row for row in table.rows}
    lines = [["*damage*", "", *(_points(next(r for r in table.rows if r.backbone == d).damage) for d in defects)]]
    for control, repair in sorted({(row.control, row.repair) for row in table.rows}):
        cells = [found.get((d, repair)) for d in defects]
        change = next((r.clean_change for r in cells if r is not None and r.clean_change is not None), None)
        shares = ["" if r is None else _share(share(r)) for r in cells]
        lines.append([f"{repair}°" if control else repair, _points(change), *shares])
    headers = [what, "clean", *(d.partition("+")[2] for d in defects)]
    return tabulate(lines, headers, tablefmt="pipe", disable_numparse=True)


def _points(change: Difference | None) -> str:
    if change is None:
        return ""
    ends = "" if change.ci_low is None else f" [{change.ci_low:+.1f}, {change.ci_high:+.1f}]"
    return (f"{change.delta:+.1f}" + ends).replace("-", "−")


def _share(found: Recovery | None) -> str:
    if found is None:
        return ""
    if found.value is None:
        return "–"
    ends = (
        ""
        if found.ci_low is None or found.ci_high is None
        else f" [{round(100 * found.ci_low)}, {round(100 * found.ci_high)}]"
    )
    return (f"{round(100 * found.value)}" + ends).replace("-", "−")


COLUMNS = (
    *("task", "dataset", "metric", "unit", "backbone", "repair", "control", "clean", "defective", "repaired"),
    *("damage", "damage_low", "damage_high", "recovery", "recovery_low", "recovery_high", "null_reason"),
    *(
        "clean_change",
        "clean_change_low",
        "clean_change_high",
        "closed",
        "closed_low",
        "closed_high",
        "seeds",
        "groups",
    ),
)


def to_csv(tables: Sequence[RecoveryTable]) -> str:
    """One line per task, metric, defect and repair (`COLUMNS`); recovery as a fraction, empty where it is null."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table in tables:
        for r in table.rows:
            names = (table.task, table.dataset, table.metric, table.unit, r.backbone, r.repair, str(r.control).lower())
            damage = (r.damage.delta, r.damage.ci_low, r.damage.ci_high)
            share = (r.recovery.value, r.recovery.ci_low, r.recovery.ci_high)
            change = (
                (r.clean_change.delta, r.clean_change.ci_low, r.clean_change.ci_high) if r.clean_change else (None,) * 3
            )
            numbers = _written(r.clean, r.defective, r.repaired, *damage, *share)
            closed = (r.closed.value, r.closed.ci_low, r.closed.ci_high) if r.closed else (None,) * 3
            writer.writerow([*names, *numbers, r.recovery.reason, *_written(*change, *closed), r.seeds, r.groups])
    return out.getvalue()


def _written(*values: float | None) -> list[str]:
    return ["" if value is None else f"{value:.4f}" for value in values]
