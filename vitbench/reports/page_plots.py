"""Recovery and cost as coordinates for inline SVG: one dot with its interval per repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitbench.reports.cells import base_of
from vitbench.reports.leaderboard import Leaderboard, Row, Table
from vitbench.reports.numbers import Numbers, recovery_text
from vitbench.reports.plots import BOTTOM, LEFT, RIGHT, TOP, Axis, Tick

NAME_PX, COLUMN_PX, ROW_PX, HEAD_PX = 190, 132, 17, 48
SHOWN = (-1.0, 1.5)  # share of the damage; beyond it dots stand at the edge, and the text tells
MOST_DOTS, MOST_POINTS = 12_000, 300
NAMED_POINTS, NAME_WIDTH, NAME_HEIGHT, LETTER = 5, 130, 13, 6


@dataclass(frozen=True)
class Dot:
    """A dot in pixels, its interval, and what it says. kind: better, worse, even; clipped: it lies further out."""

    x: float
    low: float
    high: float
    kind: str
    told: str
    clipped: bool = False


@dataclass(frozen=True)
class Column:
    """One defect, or the clean backbone: title, note below it, dots by row, and where zero and one are."""

    left: float
    title: str
    note: str
    dots: tuple[tuple[float, Dot], ...]
    lines: tuple[float, ...]


@dataclass(frozen=True)
class RecoveryPlot:
    """One table: repairs down, the clean backbone and the defects across."""

    table: int
    width: float
    height: float
    names: tuple[tuple[float, str, bool], ...]
    columns: tuple[Column, ...]
    texts: tuple[tuple[str, ...], ...]


def recovery_plots(board: Leaderboard) -> tuple[list[RecoveryPlot], int]:
    """Per table and backbone whose defects do damage, and how many had to be left out.

    Beside the defects stands what each repair does to the clean backbone.
    """
    out: list[RecoveryPlot] = []
    left, room = 0, MOST_DOTS
    for i, table in enumerate(board.tables):
        rows = {(r.backbone, r.repair): r for r in table.rows}
        damaged = [r for r in table.rows if r.section == "defect" and r.recovery and r.recovery.value is not None]
        for base in dict.fromkeys(base_of(r.backbone) for r in damaged):
            members = [r for r in damaged if base_of(r.backbone) == base]
            room -= len(members)
            if room < 0 and out:
                left += 1
                continue
            out.append(_recovery_plot(i, table, board.baseline, base, members, rows))
    return out, left


def _recovery_plot(
    i: int, table: Table, baseline: str, base: str, damaged: Sequence[Row], rows: dict[tuple[str, str], Row]
) -> RecoveryPlot:
    number = Numbers(table)
    control = {r.repair: r.control for r in damaged}
    repairs = sorted(control, key=lambda r: (control[r], r))
    defects = sorted({r.backbone for r in damaged})
    at = {repair: HEAD_PX + ROW_PX * (k + 0.5) for k, repair in enumerate(repairs)}
    clean = {r: row for r in repairs if (row := rows.get((base, r))) is not None and row.difference is not None}
    columns = [_clean_column(base, clean, at, number)]
    for k, defect in enumerate(defects):
        members = {r: row for r in repairs if (row := rows.get((defect, r))) is not None}
        own = rows.get((defect, baseline))
        columns.append(_defect_column(NAME_PX + (k + 1) * COLUMN_PX, base, defect, own, members, at, number))
    texts = tuple((r, _change_text(clean.get(r), number), *(_text(rows.get((d, r))) for d in defects)) for r in repairs)
    names = tuple((at[r] + 4, r, control[r]) for r in repairs)
    width = NAME_PX + COLUMN_PX * len(columns)
    return RecoveryPlot(i, width, HEAD_PX + ROW_PX * len(repairs) + 8, names, tuple(columns), texts)


def _change_text(row: Row | None, number: Numbers) -> str:
    return "" if row is None else number.difference(row)[0]


def _text(row: Row | None) -> str:
    return "" if row is None or row.recovery is None else recovery_text(row)


def _clean_column(base: str, clean: dict[str, Row], at: dict[str, float], number: Numbers) -> Column:
    ends = [v for r in clean.values() if (d := r.difference) for v in (d.ci_low, d.ci_high, d.delta) if v is not None]
    left = float(NAME_PX)
    axis = Axis([*ends, 0.0], left + 8, left + COLUMN_PX - 14)
    dots = []
    for repair, row in clean.items():
        change = row.difference
        if change is None:
            continue
        low, high = change.ci_low, change.ci_high
        known = low is not None and high is not None
        told = f"{repair} on {base}: {' '.join(number.difference(row))}"
        kind = {"▲": "better", "▼": "worse"}.get(row.mark, "even")
        x = axis(change.delta)
        dots.append((at[repair], Dot(x, axis(low or 0) if known else x, axis(high or 0) if known else x, kind, told)))
    note = f"Δ {number.table.metric}{f' in {number.unit}' if number.unit else ''}"
    return Column(left, f"clean {base}", note, tuple(dots), (axis(0),))


def _defect_column(
    left: float, base: str, defect: str, own: Row | None, members: dict[str, Row], at: dict[str, float], number: Numbers
) -> Column:
    axis = Axis(SHOWN, left + 8, left + COLUMN_PX - 14, room=0.0)

    def place(value: float) -> float:
        return axis(min(max(value, SHOWN[0]), SHOWN[1]))

    dots = []
    for repair, row in members.items():
        back = row.recovery
        if back is None or back.value is None:
            continue
        low = back.value if back.ci_low is None else back.ci_low
        high = back.value if back.ci_high is None else back.ci_high
        kind = "better" if low > 0 else "worse" if high < 0 else "even"
        outside = not SHOWN[0] <= back.value <= SHOWN[1]
        told = f"{repair} on {defect}: {recovery_text(row)} % of the damage"
        dots.append((at[repair], Dot(place(back.value), place(low), place(high), kind, told, outside)))
    damage = own.damage if own else None
    size = (damage.delta if number.table.higher_is_better else -damage.delta) if damage else None
    cost = f"costs {number.value(size)}{' ' + number.unit if number.unit else ''}" if size is not None else ""
    return Column(left, defect.removeprefix(base), cost, tuple(dots), (axis(0), axis(1)))


@dataclass(frozen=True)
class Point:
    """A repair in a cost plot: place, interval in y, kind as in `Dot`, square where it takes several forwards."""

    x: float
    y: float
    low: float
    high: float
    kind: str
    square: bool
    told: str
    name: str = ""
    anchor: str = "start"


@dataclass(frozen=True)
class Scatter:
    """Gain over the baseline against seconds to fit, for one table."""

    table: int
    note: str
    points: tuple[Point, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    zero: float


def cost_plots(board: Leaderboard, most: int = 12) -> list[Scatter]:
    """Tables that enter means, models without defects: what a repair changes against what it costs to fit."""
    found = []
    for i, table in enumerate(board.tables):
        rows = [r for r in table.rows if r.section == "model" and r.difference is not None]
        if table.averaged and not table.variant and len(rows) > 1:
            found.append(_scatter(i, table, rows))
    return found[:most]


def _scatter(i: int, table: Table, rows: Sequence[Row]) -> Scatter:
    number = Numbers(table)
    costs = [r.fit_seconds or 0.0 for r in rows]
    floor = min([c for c in costs if c > 0], default=0.1) / 3  # no fit at all stands left of the cheapest
    x_axis = Axis([max(c, floor) for c in costs], LEFT + 12, RIGHT, log=True)
    ends = [
        v * number.scale for r in rows if (d := r.difference) for v in (d.ci_low, d.ci_high, d.delta) if v is not None
    ]
    y_axis = Axis([*ends, 0.0], BOTTOM, TOP)
    order = sorted(range(len(rows)), key=lambda k: -_size(rows[k]))
    points = [_point(rows[k], max(costs[k], floor), x_axis, y_axis, number) for k in order[:MOST_POINTS]]
    known = x_axis.ticks() if max(costs) > 0 else ()
    x_ticks = (Tick(x_axis(floor), "none"), *(t for t in known if t.at > x_axis(floor) + 24))
    note = f"{table.metric}, {'higher' if table.higher_is_better else 'lower'} is better"
    return Scatter(i, note, tuple(_named(points)), x_ticks, y_axis.ticks(), y_axis(0))


def _size(row: Row) -> float:
    return abs(row.difference.delta) if row.difference else 0.0


def _point(row: Row, cost: float, x_axis: Axis, y_axis: Axis, number: Numbers) -> Point:
    change = row.difference
    assert change is not None
    y = change.delta * number.scale
    low = y if change.ci_low is None else change.ci_low * number.scale
    high = y if change.ci_high is None else change.ci_high * number.scale
    told = f"{row.repair} on {row.backbone}: {number.difference(row)[0]}, fit {row.fit_seconds or 0:.3g} s"
    x = x_axis(cost)
    return Point(
        x, y_axis(y), y_axis(low), y_axis(high), {"▲": "better", "▼": "worse"}.get(row.mark, "even"),
        (row.forwards_per_image or 1) > 1, told, row.repair, "end" if x > (LEFT + RIGHT) / 2 else "start",
    )  # fmt: skip


def _covers(p: Point, q: Point) -> bool:
    """Whether the name of p would lie on the dot of q or on its interval."""
    away = q.x - p.x if p.anchor == "start" else p.x - q.x
    top, bottom = min(q.high, q.low) - NAME_HEIGHT / 2, max(q.high, q.low) + NAME_HEIGHT / 2
    return 4 < away < 12 + LETTER * len(p.name) and top < p.y < bottom


def _named(points: Sequence[Point]) -> list[Point]:
    """The first few that could be told apart from nothing keep their names, where names do not cover each other."""
    placed: list[Point] = []
    out = []
    for p in points:
        free = all(abs(p.y - q.y) >= NAME_HEIGHT or abs(p.x - q.x) >= NAME_WIDTH for q in placed)
        free = free and not any(_covers(p, q) for q in points if q is not p)
        if p.kind != "even" and free and len(placed) < NAMED_POINTS:
            placed.append(p)
            out.append(p)
        else:
            out.append(replace(p, name=""))
    return out
