"""Checkpoints as a table, steps in order, a column per task; and what a new one is held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.reports.test_comparison import Told
from vitbench.records.index import Entry
from vitbench.reports.checkpoints import predecessors
from vitbench.reports.comparison import compare
from vitbench.reports.comparison_formats import to_junit
from vitbench.reports.comparison_formats import to_markdown as comparison_text
from vitbench.reports.formats import to_markdown, to_text
from vitbench.reports.leaderboard import build
from vitbench.reports.thresholds import load_thresholds


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


def test_a_new_checkpoint_is_held_against_the_nearest_earlier_one_with_a_number(scored: Callable[..., Any]) -> None:
    def entry(name: str, value: float = 50.0, **other: Any) -> Entry:
        return Entry.of(scored(name, "none", "depth@ridge", value))._replace(**other)

    known = [entry("my@100"), entry("my@300"), entry("my+grid@100"), entry("other@200")]
    null = entry("my@400", value=1.0, status="failed")._replace(value=None)
    new = [
        entry("my@300"),
        entry("my@200"),
        null,
        entry("my@500"),
        entry("my@50"),
        entry("my@500+grid"),
        entry("plain"),
    ]
    found = {slot.backbone: e.slot.backbone for slot, e in predecessors(known, new).items()}
    assert found == {"my@200": "my@100", "my@500": "my@300"}


def test_a_checkpoint_that_is_worse_than_the_one_before_is_a_regression(scored: Callable[..., Any]) -> None:
    task = "linear_segmentation@ridge"
    old, good, bad = (
        Entry.of(scored(name, "none", task, value))._replace(identity=str(i) * 16)
        for i, (name, value) in enumerate((("my@100", 50.0), ("my@200", 60.0), ("my@300", 52.0)))
    )
    evidence = Told(("backbone.digest", "backbone.name", "dtype"))
    found = compare(
        [old], [old, good, bad], load_thresholds(), evidence, stand_ins=predecessors([old], [old, good, bad])
    )
    assert [(p.slot.backbone, p.status, p.against) for p in found.pairs] == [
        ("my@300", "regressed", "my@200"), ("my@200", "improved", "my@100"), ("my@100", "unchanged", ""),
    ]  # fmt: skip
    assert "against my@200; differs: dtype" in comparison_text(found)
    assert "); against my@200; differs: dtype" in to_junit(found)
    assert 'message="miou %: ' in to_junit(found)
