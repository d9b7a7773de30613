"""Checkpoints of one training: which belong together, which came before which, and all as a table, steps down.

The page draws the same as curves.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from vitbench.identity import Slot
from vitbench.records.index import Entry
from vitbench.reports.grids import Chapter, Grid, Line, folded, header_of
from vitbench.reports.leaderboard import Leaderboard, Row
from vitbench.reports.numbers import NOTHING, Numbers

CHECKPOINT = re.compile(r"^(?P<name>[^@+]+)@(?P<step>\d+)(?P<rest>.*)$")  # NAME@STEP, defects after it


def series_of(slot: Slot) -> tuple[Slot, int] | None:
    """The slot of the series that a checkpoint belongs to, `NAME@{step}`, and its step; None for what is no checkpoint."""
    m = CHECKPOINT.match(slot.backbone)
    return (replace(slot, backbone=f"{m['name']}@{{step}}{m['rest']}"), int(m["step"])) if m else None


def predecessors(known: Iterable[Entry], new: Iterable[Entry]) -> dict[Slot, Entry]:
    """For every measured checkpoint of `new` that `known` lacks: the nearest earlier one of its training with a number.

    Of equal ones in both, that of `new`: it was measured by the same code.
    """
    measured = [e for e in new if e.value is not None]
    slots = {e.slot for e in known}
    found: dict[Slot, dict[int, Entry]] = defaultdict(dict)
    for e in (*(k for k in known if k.value is not None), *measured):
        if place := series_of(e.slot):
            found[place[0]][place[1]] = e
    out = {}
    for e in measured:
        place = series_of(e.slot)
        earlier = [n for n in found[place[0]] if n < place[1]] if place and e.slot not in slots else []
        if place and earlier:
            out[e.slot] = found[place[0]][max(earlier)]
    return out


def checkpoint_chapter(board: Leaderboard) -> Chapter:
    """A grid per backbone and repair with at least two checkpoints; no grids where there is no series."""
    text = "Value of each headline by training step, with its 95 % interval; every step is on the same units."
    return Chapter("Checkpoints", (text,), tuple(g for part in _series(board) for g in part))


def _series(board: Leaderboard) -> list[tuple[Grid, ...]]:
    main = [t for t in board.tables if not t.variant]
    found: dict[tuple[str, str], dict[int, dict[int, Row]]] = defaultdict(lambda: defaultdict(dict))
    for i, table in enumerate(main):
        for row in table.rows:
            if m := CHECKPOINT.match(row.backbone):
                found[m["name"] + m["rest"], row.repair][int(m["step"])][i] = row
    grids = []
    for (name, repair), steps in sorted(found.items()):
        if len(steps) < 2:
            continue
        columns = [i for i in range(len(main)) if any(i in rows for rows in steps.values())]
        numbers = [Numbers(main[i]) for i in columns]
        lines: list[Line] = [
            (str(step), *(_text(steps[step].get(i), n) for i, n in zip(columns, numbers, strict=True)))
            for step in sorted(steps)
        ]
        title = name if repair == board.baseline else f"{name} {repair}"
        grids.append(folded(title, "step", [header_of(board, main[i]) for i in columns], lines))
    return grids


def _text(row: Row | None, number: Numbers) -> str:
    if row is None or row.value is None:
        return NOTHING
    sign = "*" if row.incomplete else ""
    return f"{number.value(row.value)}{sign} {number.interval(row.ci_low, row.ci_high)}"
