"""Checkpoints as a table: steps in order, a column per task, none where there is no series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitbench.reports.formats import to_markdown, to_text
from vitbench.reports.leaderboard import build


def test_steps_are_rows_and_tasks_columns(scored: Callable[..., Any], loaded: Callable[..., Any]) -> None:
    records = [scored(f"lab_ssl@{step}", "none", "depth@ridge", 3.0 / step) for step in (100, 20, 5)]
    records += [scored(f"lab_ssl@{step}", "none", "knn_segmentation@hummingbird", 10.0 + step) for step in (20, 100)]
    board = build(loaded(*records))
    chapter = to_text(board).split("CHECKPOINTS")[1].split("TABLES")[0]
    lines = [line.split() for line in chapter.splitlines() if line[:1].isdigit()]
    assert [line[0] for line in lines] == ["5", "20", "100"]
    assert "–" in lines[0]
    assert "–" not in lines[2]
    assert "## Checkpoints" in to_markdown(board)


def test_without_a_series_there_is_no_chapter(scored: Callable[..., Any], loaded: Callable[..., Any]) -> None:
    board = build(
        loaded(scored("lab_ssl@5", "none", "depth@ridge", 3.0), scored("lab_mae", "none", "depth@ridge", 2.0))
    )
    assert "CHECKPOINTS" not in to_text(board)
