"""The leaderboard as grids of short texts: what a terminal and Markdown show. Layout only, no numbers are made here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from vitbench.errors import UsageError
from vitbench.reports.cells import family_of
from vitbench.reports.leaderboard import SECTIONS, Leaderboard, Missing, Row, Table
from vitbench.reports.numbers import (
    NOTHING,
    Numbers,
    counts_text,
    gap_text,
    hyphenated,
    lacking,
    number_text,
    p_text,
    published_notes,
    published_text,
    rank_text,
    recovery_text,
)
from vitbench.selection import parse_term

WIDTH = 120
CONTINUED = "(continued)"
_SECTION_TITLES = {"model": "", "defect": "planted defects", "control": "controls (must lose)"}
_EXAMPLES = 3


Line = tuple[str, ...] | str


@dataclass(frozen=True)
class Grid:
    """A titled table. Lines are rows of texts, or a str: a rule with that label. `numeric`: columns aligned right."""

    title: str
    headers: tuple[str, ...]
    lines: tuple[Line, ...]
    left: int = 1  # how many leading columns are text
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """Grids under one heading, with a paragraph on how to read them."""

    title: str
    text: tuple[str, ...]
    grids: tuple[Grid, ...]


def chapters(board: Leaderboard, tables: bool = True) -> list[Chapter]:
    """Overview, repairs, recovery, the tables themselves (unless told not to), and what is missing; no empty ones."""
    base = board.baseline
    found = [
        Chapter(
            "Overview",
            (f"Backbones with repair {base}; * some seeds missing, {NOTHING} no number.", MEANS),
            overview(board),
        ),
        Chapter(
            "Repairs",
            (f"Paired difference to {base} on the same backbone; {_MARKS}.",),
            effects(board),
        ),
        Chapter(
            "Recovery",
            (
                "Share of the damage of a planted defect that a repair undoes, in %, with its 95 % interval: 0 nothing, 100 all.",
                f"{NOTHING} where the damage is not significant or under 2 points.",
            ),
            recoveries(board),
        ),
        Chapter(
            "Tables",
            (
                "Intervals are 95 %, from resampled groups (images, clips). Rank: positions the data do not exclude.",
                f"Δ: paired difference to {base} on the same backbone and units; q: its p, Benjamini-Hochberg over the table;",
                f"{_MARKS}. ° negative control, † see below the table, * some seeds missing.",
                "Cost: fwd, forwards per image; fit s, seconds to fit the repair; +par, numbers that the repair adds;",
                "mem, peak memory in bytes. Gap: measured - published; n: in 95 % half widths of the published run-to-run noise.",
            ),
            tuple(grid for table in board.tables for grid in table_grids(board, table)) if tables else (),
        ),
        Chapter("Without a number", ("These enter no mean and no rank.",), status(board.missing)),
    ]
    return [chapter for chapter in found if chapter.grids]


MEANS = (
    "Means are of one metric over tasks of one family, of rows that lack none; probes, diagnostics and what is chosen on "
    "the test split enter none."
)
_MARKS = "▲ better, ▼ worse, · cannot be told apart (adjusted p under 0.05, whichever direction is good)"


def summary(board: Leaderboard) -> str:
    """One line: how many cells, from when, from which code."""
    measured = sum(len(table.rows) for table in board.tables)
    counts = ((measured, "cell"), (len(board.tables), "table"), (board.records, "record"))
    cells, tables, records = (f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts)
    parts = [f"{cells} in {tables} from {records}"]
    if board.missing:
        parts.append(f"{len(board.missing)} without a number")
    if board.superseded:
        parts.append(f"{board.superseded} older records passed over")
    if board.last_utc:
        first, last = board.first_utc[:10], board.last_utc[:10]
        parts.append(first if first == last else f"{first} to {last}")
    if board.commits:
        parts.append("commit " + ", ".join(board.commits[:3]) + (" ..." if len(board.commits) > 3 else ""))
    return " · ".join(parts)


# -- one table --------------------------------------------------------------------------------------------------------


def table_grids(board: Leaderboard, table: Table) -> tuple[Grid, ...]:
    """Rows of one table: the backbone's own line is its baseline, its repairs hang below it. Long names make it two."""
    number = Numbers(table)
    headers = (
        *("backbone / repair", number.header, "95 %", "rank", f"Δ {board.baseline}", "95 %", "q", "recovery"),
        *("published", "gap", "fwd", "fit s", "+par", "mem"),
    )
    lines: list[Line] = []
    for section in SECTIONS:
        rows = [row for row in table.rows if row.section == section]
        if rows and section != "model":
            lines.append(_SECTION_TITLES[section])
        for backbone, block in groupby(rows, key=lambda row: row.backbone):
            lines += _block(backbone, list(block), board.baseline, number)
    groups = sorted({row.groups for row in table.rows})
    seeds = sorted({row.seeds for row in table.rows if row.seeds})
    title = f"{name_of(table)} on {table.dataset} — {table.metric} ({number.unit}{number.direction})"
    counted = f"{counts_text(groups, 'group')}, {counts_text(seeds, 'seed')}"
    flagged = [f"† {r.backbone} {r.repair}: {', '.join(r.flags)}" for r in table.rows if r.flags]
    sources = published_notes(table.rows, number)
    kept, lines = _without_empty(headers, lines)
    grids = folded(f"{title}, {counted}", kept[0], kept[1:], lines)
    return (*grids[:-1], replace(grids[-1], notes=(*flagged, *_without(table.rows), *sources)))


def _without(rows: Sequence[Row]) -> list[str]:
    """Why values, intervals and tests are not there, each reason once, with the rows that it holds for."""
    told: dict[str, list[str]] = {}
    for row in rows:
        for why in lacking(row):
            told.setdefault(why, []).append(f"{row.backbone} {row.repair}")
    return [f"{why}: {'all rows' if len(names) == len(rows) else ', '.join(names)}" for why, names in told.items()]


def name_of(table: Table) -> str:
    """Task and protocol with its version, and which further one it is where there are several under that name."""
    version = f" v{table.version}" if table.version else ""
    return table.task + version + (f" (other version or images, {table.variant})" if table.variant else "")


def _block(backbone: str, rows: list[Row], baseline: str, number: Numbers) -> list[tuple[str, ...]]:
    own = rows[0].repair == baseline
    lines = [_line(backbone, rows[0], number)] if own else [(backbone, *[""] * 13)]
    repaired = rows[1:] if own else rows
    for row in repaired:
        lines.append(_line(("└ " if row is repaired[-1] else "├ ") + row.repair, row, number))
    return lines


def _line(label: str, row: Row, number: Numbers) -> tuple[str, ...]:
    back = row.recovery
    signs = ("°" if row.control else "") + ("†" if row.flags else "") + ("*" if row.incomplete else "")
    return (
        label + signs,
        number.value(row.value),
        number.interval(row.ci_low, row.ci_high),
        rank_text(row.rank),
        *number.difference(row),
        p_text(row.p_adjusted),
        recovery_text(row) if back else "",
        published_text(row, number),
        gap_text(row, number),
        number_text(row.forwards_per_image),
        number_text(row.fit_seconds),
        number_text(row.extra_parameters),
        number_text(row.peak_memory_bytes),
    )


def _without_empty(headers: Sequence[str], lines: Sequence[Line]) -> tuple[list[str], list[Line]]:
    """Columns in which no row has anything are dropped, all but the first two."""
    rows = [line for line in lines if not isinstance(line, str)]
    kept = [i for i in range(len(headers)) if i < 2 or any(row[i] not in ("", NOTHING) for row in rows)]
    narrow: list[Line] = [line if isinstance(line, str) else tuple(line[i] for i in kept) for line in lines]
    return [headers[i] for i in kept], narrow


# -- across tables ----------------------------------------------------------------------------------------------------


def overview(board: Leaderboard) -> tuple[Grid, ...]:
    """Backbones x tasks for the baseline, and means over complete rows of models and controls: see `MEANS`."""
    main = [t for t in board.tables if not t.variant and any(r.repair == board.baseline for r in t.rows)]
    numbers = [Numbers(t) for t in main]
    plain = {(r.backbone, i): r for i, t in enumerate(main) for r in t.rows if r.repair == board.baseline}
    means = _averaged(main, numbers)
    lines: list[Line] = []
    for section in SECTIONS:
        names = _backbones(main, section)
        if names and section != "model":
            lines.append(_SECTION_TITLES[section])
        for name in names:
            rows = [plain.get((name, i)) for i in range(len(main))]
            texts = [_overview_text(row, number) for row, number in zip(rows, numbers, strict=True)]
            texts += [_mean_text([rows[i] for i in kept], [numbers[i] for i in kept]) for kept in means.values()]
            lines.append((name, *texts))
    headers = [*(header_of(board, table) for table in main), *means]
    return folded("", "backbone", headers, lines) if main else ()


def _averaged(tables: Sequence[Table], numbers: Sequence[Numbers]) -> dict[str, list[int]]:
    """Header -> the tables that one mean is over: one family, one metric, higher is better, in percent."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, (table, number) in enumerate(zip(tables, numbers, strict=True)):
        if table.averaged and number.unit == "%" and table.higher_is_better:
            groups[family_of(table.task), table.metric].append(i)
    kept = {key: members for key, members in groups.items() if len(members) > 1}
    several = {metric for metric in {m for _, m in kept} if sum(m == metric for _, m in kept) > 1}
    return {
        "\n".join(["mean", *hyphenated(family) * (metric in several), *hyphenated(metric), "%"]): members
        for (family, metric), members in kept.items()
    }


def _overview_text(row: Row | None, number: Numbers) -> str:
    if row is None or row.value is None:
        return NOTHING
    return number.value(row.value) + ("*" if row.incomplete else "")


def _mean_text(rows: Sequence[Row | None], numbers: Sequence[Numbers]) -> str:
    total = 0.0
    for row, number in zip(rows, numbers, strict=True):
        if row is None or row.value is None or row.incomplete or row.section == "defect":
            return NOTHING
        total += row.value * number.scale
    return f"{total / len(rows):.1f}"


def effects(board: Leaderboard) -> tuple[Grid, ...]:
    """Repairs x tasks on each backbone: paired differences to the baseline."""
    main = [t for t in board.tables if not t.variant and any(r.difference for r in t.rows)]
    numbers = [Numbers(t) for t in main]
    changed: dict[str, dict[str, dict[int, Row]]] = defaultdict(lambda: defaultdict(dict))
    for i, table in enumerate(main):
        for row in table.rows:
            if row.difference:
                changed[row.backbone][row.repair][i] = row
    lines: list[Line] = []
    for section in SECTIONS:
        for backbone in _backbones(main, section):
            if backbone in changed:
                lines.append(backbone + (" (a control, must lose)" if section == "control" else ""))
            for repair, rows in sorted(changed[backbone].items()):
                sign = "°" if any(row.control for row in rows.values()) else ""
                lines.append((repair + sign, *[_effect_text(rows.get(i), n) for i, n in enumerate(numbers)]))
    return folded("", "repair", [header_of(board, t) for t in main], lines) if lines else ()


def _effect_text(row: Row | None, number: Numbers) -> str:
    if row is None or row.difference is None:
        return ""
    return number.difference(row)[0] + ("" if row.mark else "  ")


def recoveries(board: Leaderboard) -> tuple[Grid, ...]:
    """Per table: repairs x defects, and above them what each defect costs."""
    grids: list[Grid] = []
    for table in board.tables:
        number = Numbers(table)
        rows = {(r.backbone, r.repair): r for r in table.rows if r.section == "defect"}
        if not any(r.recovery and r.recovery.value is not None for r in rows.values()):
            continue
        defects = sorted({r.backbone for r in rows.values()})
        repairs = sorted({r.repair for r in rows.values() if r.recovery})
        cost = [_damage_text(rows.get((d, board.baseline)), number) for d in defects]
        lines: list[Line] = [
            ("cost of the defect" + (f" ({number.unit})" if number.unit else ""), *cost),
            "",
        ]
        for repair in repairs:
            found = [rows.get((d, repair)) for d in defects]
            sign = "°" if any(r is not None and r.control for r in found) else ""
            lines.append((repair + sign, *[recovery_text(r) if r is not None else NOTHING for r in found]))
        title = f"{name_of(table)} on {table.dataset}, from {table.metric}"
        grids += folded(title, "repair", [d.replace("+", "\n+").replace("[", "\n[") for d in defects], lines)
    return tuple(grids)


def _damage_text(row: Row | None, number: Numbers) -> str:
    if row is None or row.damage is None:
        return NOTHING
    cost = row.damage.delta if number.table.higher_is_better else -row.damage.delta
    return number.value(cost)


def status(missing: Sequence[Missing]) -> tuple[Grid, ...]:
    """What has no number, grouped by status and reason, with a few examples each."""
    grouped: dict[tuple[str, str, str], list[Missing]] = defaultdict(list)
    for m in missing:
        grouped[m.status, m.reason, m.remedy].append(m)
    lines = []
    for (state, reason, remedy), members in grouped.items():
        cells = [f"{m.slot.backbone} × {m.slot.repair} × {m.slot.task}" for m in members]
        examples = "; ".join(cells[:_EXAMPLES]) + (
            f"; and {len(cells) - _EXAMPLES} more" if len(cells) > _EXAMPLES else ""
        )
        told = reason if not remedy or remedy in reason else f"{reason} - {remedy}"
        lines.append((state, str(len(cells)), told or "no reason given", examples))
    headers = ("status", "cells", "why", "which")
    return (Grid("", headers, tuple(lines), left=4),) if lines else ()


def _backbones(tables: Sequence[Table], section: str) -> list[str]:
    """Backbones of a section: in the order of the first table that has them, which is best first."""
    return list(dict.fromkeys(r.backbone for t in tables for r in t.rows if r.section == section))


def header_of(board: Leaderboard, table: Table) -> str:
    """Task over several short lines; protocol, settings and dataset only as far as they are needed to tell columns apart."""
    main = [t for t in board.tables if not t.variant]
    base, settings = settings_of(table.task)
    name, _, protocol = base.partition("@")
    words = [part for word in name.split("_") for part in hyphenated(word)]
    others = [settings_of(t.task) for t in main]
    if len({text for text, _ in others if text.partition("@")[0] == name}) > 1:
        words += hyphenated("@" + protocol)
    same = [found for text, found in others if text == base]
    for key, value in settings.items():
        if any(found.get(key) != value for found in same):
            words += [*hyphenated(f"{key}="), *hyphenated(value)]
    if len(datasets := {t.dataset for t in main}) > 1:
        words += hyphenated(_last_folder(table.dataset, datasets))
    return "\n".join([*words, Numbers(table).short])


def _last_folder(dataset: str, datasets: Collection[str]) -> str:
    """A folder by its last name alone, where no other data set is called the same: a head has no room for paths."""

    def last(name: str) -> str:
        return name.removeprefix("folder:").rstrip("/").rpartition("/")[2]

    return last(dataset) if [last(name) for name in datasets].count(last(dataset)) == 1 else dataset


def settings_of(task: str) -> tuple[str, dict[str, str]]:
    """Task and protocol, and the settings in brackets; of a name that cannot be read, the name."""
    try:
        term = parse_term(task)
    except UsageError:
        return task, {}
    return term.name, dict(term.params)


def folded(
    title: str, corner: str, headers: Sequence[str], lines: Sequence[Line], width: int = WIDTH
) -> tuple[Grid, ...]:
    """As many grids as it takes for each to fit the width; all repeat the first column."""
    rows = [line for line in lines if not isinstance(line, str)]
    widths = [
        max(len(s) for text in (h, *(row[i + 1] for row in rows)) for s in text.split("\n"))
        for i, h in enumerate(headers)
    ]
    label = max(len(text) for text in (corner, *(row[0] for row in rows)))
    grids: list[Grid] = []
    start = 0
    while start < len(headers):
        stop, used = start + 1, label + 2 + widths[start]
        while stop < len(headers) and used + 2 + widths[stop] <= width:
            used += 2 + widths[stop]
            stop += 1
        part = tuple(line if isinstance(line, str) else (line[0], *line[1 + start : 1 + stop]) for line in lines)
        grids.append(Grid(title if not start else f"{title} {CONTINUED}".strip(), (corner, *headers[start:stop]), part))
        start = stop
    return tuple(grids)
