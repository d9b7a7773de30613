"""How numbers are written in tables: short, aligned, and to what their spread resolves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitbench.reports.leaderboard import Row, Table

NOTHING = "–"
BETTER_OR_WORSE = ("▲", "▼")
_NONE = "no interval: "


class Numbers:
    """How the values of a table are written: fractions as percentages, others to what their spread resolves."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.scale = 100.0 if table.unit == "fraction" else 1.0
        self.unit = "%" if table.unit in ("fraction", "%") else table.unit
        top = max((abs(r.value) for r in table.rows if r.value is not None), default=0.0) * self.scale
        self.decimals = (1 if top >= 10 else 2) if self.unit == "%" else _decimals(top)

    @property
    def header(self) -> str:
        return self.table.metric + (" ↑" if self.table.higher_is_better else " ↓")

    @property
    def direction(self) -> str:
        unit = ", " if self.unit else ""
        return unit + ("higher is better" if self.table.higher_is_better else "lower is better")

    @property
    def short(self) -> str:
        """The metric over several short lines, with unit and arrow."""
        words = [part for word in self.table.metric.split("_") for part in hyphenated(word)]
        return "\n".join([*words, f"{self.unit} {self.header[-1]}".strip()])

    def value(self, value: float | None) -> str:
        return NOTHING if value is None else f"{value * self.scale:.{self.decimals}f}".replace("-", "−")

    def change(self, value: float, decimals: int | None = None) -> str:
        places = self.decimals if decimals is None else decimals
        text = f"{value * self.scale:+.{places}f}"
        return text.replace("-", "−") if text.strip("+-0.") else f"{0:.{places}f}"

    def interval(self, low: float | None, high: float | None) -> str:
        return NOTHING if low is None or high is None else f"[{self.value(low)},{self.value(high)}]"

    def difference(self, row: Row) -> tuple[str, str]:
        """The difference of a row with its mark, and its interval; to as many digits as a marked one takes to show."""
        change = row.difference
        if change is None:
            return "", ""
        size = abs(change.delta) * self.scale
        places = self.decimals
        if row.mark in BETTER_OR_WORSE and 0 < size < 0.5 * 10.0**-places:
            places = min(6, -math.floor(math.log10(size)))
        interval = NOTHING
        if change.ci_low is not None and change.ci_high is not None:
            interval = f"[{self.change(change.ci_low, places)},{self.change(change.ci_high, places)}]"
        return f"{self.change(change.delta, places)} {row.mark}".rstrip(), interval


def _decimals(top: float) -> int:
    return 3 if top == 0 else max(0, min(6, 2 - math.floor(math.log10(top))))


def rank_text(rank: tuple[int, int] | None) -> str:
    """Best and worst rank, or the one."""
    if rank is None:
        return ""
    return str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"


def p_text(p: float | None) -> str:
    """An adjusted p without its leading zero."""
    if p is None:
        return ""
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 0.9995 else "1"


def recovery_text(row: Row) -> str:
    """Recovery in per cent with its interval."""
    found = row.recovery
    if found is None or found.value is None:
        return NOTHING
    value, *ends = (
        f"{round(100 * x)}".replace("-", "−") for x in (found.value, found.ci_low, found.ci_high) if x is not None
    )
    return f"{value} [{','.join(ends)}]" if ends else value


def lacking(row: Row) -> list[str]:
    """Why a row has no value, or its value or its difference no interval and no test; empty where it has them all."""
    if row.value is None:
        return [f"no number, {row.note or 'undefined'}"]
    found = []
    if row.ci_low is None:
        found.append("no interval" + (f", {row.note.removeprefix(_NONE)}" if row.note else ""))
    change = row.difference
    if change is not None and change.p is None and row.ci_low is not None:
        found.append("Δ is not tested" + (f", {change.note.removeprefix(_NONE)}" if change.note else ""))
    return found


def published_text(row: Row, number: Numbers) -> str:
    """The most trusted published value; ? where it is suspect or quoted by others, + where there are more."""
    if not row.published:
        return ""
    first = row.published[0]
    doubt = "?" if first.flag or first.confidence == "secondary" else ""
    return number.value(first.value) + doubt + ("+" if len(row.published) > 1 else "")


def gap_text(row: Row, number: Numbers) -> str:
    """Measured minus published, and in units of the known noise between runs."""
    if not row.published or row.value is None:
        return ""
    first = row.published[0]
    in_noise = first.gap_in_noise(row.value)
    return number.change(row.value - first.value) + (
        "" if in_noise is None else f" ({in_noise:+.1f}n)".replace("-", "−")
    )


def published_notes(rows: Sequence[Row], number: Numbers) -> list[str]:
    """Where the published values come from: a line per source."""
    told: dict[str, list[str]] = {}
    for row in rows:
        for reference in row.published:
            doubt = f" [{reference.flag}]" if reference.flag else ""
            told.setdefault(f"{reference.source} ({reference.confidence})", []).append(
                f"{row.backbone} {row.repair} {number.value(reference.value)}{doubt}"
            )
    return [f"published, {source}: {'; '.join(values)}" for source, values in sorted(told.items())]


def number_text(value: float | None) -> str:
    """A cost in at most five characters."""
    if value is None:
        return ""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g}{unit}"
    return f"{value:.0f}" if value == int(value) or value >= 100 else f"{value:.2g}"


def counts_text(values: Sequence[int], word: str) -> str:
    """Sorted counts of something as one or as a range."""
    if not values:
        return f"0 {word}s"
    return f"{values[0] if len(values) == 1 else f'{values[0]}–{values[-1]}'} {word}{'' if values[-1] == 1 else 's'}"


def hyphenated(word: str, width: int = 8) -> list[str]:
    """A word in even pieces of at most `width` letters, so that column heads stay narrow."""
    if len(word) <= width + 1:
        return [word]
    size = math.ceil(len(word) / math.ceil(len(word) / width))
    pieces = [word[i : i + size] for i in range(0, len(word), size)]
    return [*(f"{piece}-" for piece in pieces[:-1]), pieces[-1]]
