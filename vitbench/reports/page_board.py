"""The tables of the page: every cell of every table as short texts, the overview, and repairs x tasks as a heat map."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vitbench.reports.grids import overview, table_grids
from vitbench.reports.leaderboard import Leaderboard, Row, Table
from vitbench.reports.numbers import (
    NOTHING,
    Numbers,
    gap_text,
    lacking,
    number_text,
    p_text,
    published_notes,
    published_text,
    rank_text,
    recovery_text,
)

MOST_ROWS = 12_000  # beyond that the page would be larger than a browser likes
MOST_HEAT_CELLS = 40_000
SHADES = 9
SECTION_TITLES = {"model": "models", "defect": "planted defects", "control": "controls"}


@dataclass(frozen=True)
class Line:
    """One row of the leaderboard as texts, in the order of `COLUMNS`. signs: ° negative control, † see what it is `told`."""

    table: int
    section: str
    backbone: str
    repair: str
    control: bool
    signs: str
    mark: str
    texts: tuple[str, ...]
    told: str


COLUMNS = (
    ("value", True),
    ("95 %", False),
    ("rank", True),
    ("Δ", True),
    ("95 % of Δ", False),
    ("q", True),
    ("recovery %", True),
    ("published", True),
    ("gap", True),
    ("fwd", True),
    ("fit s", True),
    ("+par", True),
    ("mem", True),
)
"""Heads of the leaderboard after task, backbone and repair, and whether one can sort by them."""


@dataclass(frozen=True)
class Heat:
    """Repairs x tables of one backbone. cells: (text, class, what it says in words) or None where there is no number."""

    backbone: str
    section: str
    repairs: tuple[tuple[str, bool], ...]
    cells: tuple[tuple[tuple[str, str, str] | None, ...], ...]


def labels(tables: Sequence[Table]) -> list[str]:
    """Short names of tables: protocol, dataset and variant only where they are needed to tell them apart."""
    names = Counter(t.task.partition("@")[0] for t in tables)
    bases = Counter(t.task.partition("[")[0] for t in tables)
    datasets = {t.dataset for t in tables}
    out = []
    for t in tables:
        name, base = t.task.partition("@")[0], t.task.partition("[")[0]
        label = name if names[name] == 1 else base if bases[base] == 1 else t.task
        if len(datasets) > 1:
            label += f" on {t.dataset}"
        out.append(label + (f" (variant {t.variant})" if t.variant else ""))
    return [
        t.task + f" on {t.dataset}" if out.count(label) > 1 else label for t, label in zip(tables, out, strict=True)
    ]


def lines(board: Leaderboard) -> tuple[list[Line], int]:
    """The leaderboard's rows, best first within a table, and how many had to be left out (the last of each table)."""
    total = sum(len(t.rows) for t in board.tables)
    share = min(1.0, MOST_ROWS / max(total, 1))
    found = []
    for i, table in enumerate(board.tables):
        number = Numbers(table)
        kept = table.rows[: max(int(len(table.rows) * share), 1)]
        found += [_line(i, row, number) for row in kept]
    return found, total - len(found)


def _line(table: int, row: Row, number: Numbers) -> Line:
    texts = (
        number.value(row.value) + ("*" if row.incomplete else ""),
        number.interval(row.ci_low, row.ci_high),
        rank_text(row.rank),
        *number.difference(row),
        p_text(row.p_adjusted),
        recovery_text(row) if row.recovery else "",
        published_text(row, number),
        gap_text(row, number),
        number_text(row.forwards_per_image),
        number_text(row.fit_seconds),
        number_text(row.extra_parameters),
        number_text(row.peak_memory_bytes),
    )
    remarks = (*lacking(row), ", ".join(row.flags), row.recovery.reason if row.recovery else "")
    told = "; ".join(text for text in (*remarks, *published_notes([row], number)) if text)
    signs = "°" * row.control + "†" * bool(lacking(row) or row.flags)
    return Line(table, row.section, row.backbone, row.repair, row.control, signs, row.mark, texts, told)


def kept_columns(found: Sequence[Line]) -> list[int]:
    """Places in `COLUMNS` at which any line has a text."""
    return [i for i in range(len(COLUMNS)) if any(line.texts[i] not in ("", NOTHING) for line in found)]


def overview_table(board: Leaderboard) -> tuple[list[str], list[Any]]:
    """Backbones x tasks for the baseline: headers and lines; a line that is a text is the title of a section.

    Long words of headers may be broken where a terminal breaks them, with a hyphen.
    """
    grids = overview(board)
    headers = [_head(h) for g in grids[:1] for h in g.headers]
    body: list[list[Any]] = [list(line) if not isinstance(line, str) else [line] for g in grids[:1] for line in g.lines]
    for grid in grids[1:]:  # folded for a terminal; a page scrolls
        headers += [_head(h) for h in grid.headers[1:]]
        for whole, line in zip(body, grid.lines, strict=True):
            whole += [] if isinstance(line, str) else list(line[1:])
    return headers, [line[0] if len(line) == 1 else line for line in body]


def _head(header: str) -> str:
    return header.replace("-\n", "\u00ad").replace("\n", " ")


def remarks(board: Leaderboard) -> list[tuple[int, str]]:
    """What signs in the leaderboard stand for, as (table, text): a title shows only to who has a mouse."""
    notes = [(i, note) for i, t in enumerate(board.tables) for note in table_grids(board, t)[-1].notes]
    return [(i, note) for i, note in notes if not note.startswith("published, ")]


def heats(board: Leaderboard) -> tuple[list[int], list[Heat], int]:
    """Which tables have differences, one heat map per backbone with repairs, and how many backbones were left out.

    Shades are of each table's own largest difference (controls aside), by its square root; what cannot be told apart
    has none.
    """
    tables = [i for i, t in enumerate(board.tables) if not t.variant and any(r.difference for r in t.rows)]
    numbers = {i: Numbers(board.tables[i]) for i in tables}
    top = {
        i: max((abs(r.difference.delta) for r in board.tables[i].rows if r.difference and not r.control), default=0.0)
        for i in tables
    }
    by_backbone: dict[tuple[str, str], dict[str, dict[int, Row]]] = defaultdict(lambda: defaultdict(dict))
    for i in tables:
        for row in board.tables[i].rows:
            if row.difference:
                by_backbone[row.section, row.backbone][row.repair][i] = row
    found: list[Heat] = []
    left, room = 0, MOST_HEAT_CELLS
    for (section, backbone), repairs in by_backbone.items():
        room -= len(repairs) * len(tables)
        if room < 0 and found:
            left += 1
            continue
        names = sorted(repairs, key=lambda r: (any(x.control for x in repairs[r].values()), r))
        cells = tuple(
            tuple(_heat_cell(repairs[name].get(i), board.tables[i], numbers[i], top[i]) for i in tables)
            for name in names
        )
        signed = tuple((name, any(x.control for x in repairs[name].values())) for name in names)
        found.append(Heat(backbone, section, signed, cells))
    return tables, found, left


def _heat_cell(row: Row | None, table: Table, number: Numbers, top: float) -> tuple[str, str, str] | None:
    if row is None or row.difference is None:
        return None
    change = row.difference
    text, interval = number.difference(row)
    shade = ""
    if row.mark in ("▲", "▼") and top:
        strength = min(abs(change.delta) / top, 1.0) ** 0.5
        shade = ("b" if row.mark == "▲" else "w") + str(max(1, round(SHADES * strength)))
    q = f", q {p_text(row.p_adjusted)}" if row.p_adjusted is not None else ", not tested"
    return text, shade, f"{row.repair}, {table.metric}: {text} {interval}{q}"


@dataclass(frozen=True)
class Glance:
    """A repair over all tables: how often better, not told apart, worse, on clean models and on planted defects."""

    repair: str
    control: bool
    model: tuple[int, int, int]
    defect: tuple[int, int, int]
    forwards: str
    fit_seconds: str
    parameters: str


def glances(board: Leaderboard) -> list[Glance]:
    """One line per repair other than the baseline, those that help clean models most often first."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for table in board.tables:
        for row in table.rows if not table.variant else ():
            if row.difference:
                rows[row.repair].append(row)
    found = [_glance(repair, members) for repair, members in rows.items()]
    return sorted(found, key=lambda g: (g.control, g.model[2] - g.model[0], g.defect[2] - g.defect[0], g.repair))


def _glance(repair: str, rows: Sequence[Row]) -> Glance:
    def count(section: str) -> tuple[int, int, int]:
        marks = Counter(r.mark for r in rows if r.section == section)
        return marks["▲"], marks["·"], marks["▼"]

    def mean(name: str) -> str:
        values = [v for r in rows if (v := getattr(r, name)) is not None]
        return number_text(sum(values) / len(values)) if values else NOTHING

    control = any(r.control for r in rows)
    costs = (mean("forwards_per_image"), mean("fit_seconds"), mean("extra_parameters"))
    return Glance(repair, control, count("model"), count("defect"), *costs)


def distinct(found: Sequence[Line]) -> Mapping[str, list[str]]:
    """What one can filter by: backbones and repairs in order of appearance."""
    return {
        "backbone": list(dict.fromkeys(line.backbone for line in found)),
        "repair": sorted(dict.fromkeys(line.repair for line in found)),
    }


def repaired_backbones(board: Leaderboard) -> list[tuple[str, list[str]]]:
    """Backbones with their repairs in the order in which galleries are worth drawing.

    The model and the defect with the most repairs (of equals the one that does most harm) first, then what else was
    repaired; controls come last.
    """
    repairs: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for table in board.tables:
        for row in table.rows:
            own = repairs[row.section, row.backbone]
            if row.repair != board.baseline:
                own[row.repair] = None
    most: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for (section, backbone), found in repairs.items():
        most[section].append((backbone, sorted(found)))
    harm = _harm(board)
    for members in most.values():
        members.sort(key=lambda item: (-len(item[1]), -harm.get(item[0], 0.0)))
    heads = [most[section][0] for section in ("model", "defect") if most[section]]
    rest = [item for section in SECTION_TITLES for item in most[section] if item not in heads]
    return [*heads, *rest]


def _harm(board: Leaderboard) -> dict[str, float]:
    """The largest damage that each planted defect does, relative to the clean backbone's value."""
    harm: dict[str, float] = defaultdict(float)
    for table in board.tables:
        for row in table.rows if table.averaged else ():
            if row.damage is not None and row.value is not None:
                cost = row.damage.delta if table.higher_is_better else -row.damage.delta
                clean = abs(row.value + row.damage.delta)
                harm[row.backbone] = max(harm[row.backbone], cost / max(clean, 1e-12))
    return harm
