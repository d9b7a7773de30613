"""Checkpoints of one training as a table: steps down, tasks across. The page draws the same as curves."""

from __future__ import annotations

import re
from collections import defaultdict

from vitbench.reports.grids import Chapter, Grid, Line, folded, header_of
from vitbench.reports.leaderboard import Leaderboard, Row
from vitbench.reports.numbers import NOTHING, Numbers

CHECKPOINT = re.compile(r"^(?P<name>[^@+]+)@(?P<step>\d+)(?P<rest>.*)$")  # NAME@STEP, defects after it


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
