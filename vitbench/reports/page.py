"""The page of `vitbench report`: one static HTML file with everything the records say. No server, no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vitbench.reports.documents import render
from vitbench.reports.grids import MEANS, status, summary
from vitbench.reports.leaderboard import Leaderboard
from vitbench.reports.numbers import Numbers, published_notes
from vitbench.reports.page_board import (
    COLUMNS,
    SECTION_TITLES,
    distinct,
    glances,
    heats,
    kept_columns,
    labels,
    lines,
    overview_table,
    remarks,
)
from vitbench.reports.page_details import Details
from vitbench.reports.page_plots import cost_plots, recovery_plots

if TYPE_CHECKING:
    from vitbench.reports.gallery import Gallery

MOST_PROBLEMS = 20


def page(board: Leaderboard, found: Details, galleries: Sequence[Gallery] = (), title: str = "vitbench") -> str:
    """The page as text. Raises nothing for what is missing: its section is left out, or says why."""
    shown, left_out = lines(board)
    heat_tables, heat_maps, heat_left = heats(board)
    numbers = [Numbers(t) for t in board.tables]
    recoveries, recovery_left = recovery_plots(board)
    return render(
        "page.html",
        title=title,
        board=board,
        summary=summary(board),
        labels=labels(board.tables),
        units=[
            f"{t.metric}{f', {n.unit}' if n.unit else ''} {n.header[-1]}"
            for t, n in zip(board.tables, numbers, strict=True)
        ],
        sections=SECTION_TITLES,
        columns=[(i, *COLUMNS[i]) for i in kept_columns(shown)],
        sources=[note for t, n in zip(board.tables, numbers, strict=True) for note in published_notes(t.rows, n)],
        remarks=remarks(board),
        lines=shown,
        left_out=left_out,
        choices=distinct(shown),
        overview=overview_table(board),
        means=MEANS,
        heat_tables=heat_tables,
        heats=heat_maps,
        heat_left=heat_left,
        recoveries=recoveries,
        recovery_left=recovery_left,
        costs=cost_plots(board),
        glances=glances(board),
        details=found,
        galleries=galleries,
        missing=[line for grid in status(board.missing) for line in grid.lines],
        problems=board.problems[:MOST_PROBLEMS],
        more_problems=max(len(board.problems) - MOST_PROBLEMS, 0),
    )
