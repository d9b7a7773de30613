"""Formats of the leaderboard: the same bytes for the same records, nothing lost, nothing taken for markup."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vitbench.records.index import Entry, Loaded
from vitbench.records.schema import Record
from vitbench.reports.formats import FORMATS, to_csv, to_json, to_markdown, to_text
from vitbench.reports.grids import WIDTH
from vitbench.reports.leaderboard import Leaderboard, build

from .test_leaderboard import LINEAR, rows


def test_the_same_records_give_the_same_bytes_in_any_order(make_lab: Callable[[], Loaded], lab: Leaderboard) -> None:
    entries = list(make_lab().entries)
    random.Random(0).shuffle(entries)
    again = build(Loaded(tuple(entries)))
    for write in FORMATS.values():
        assert write(again) == write(lab)


def test_text_fits_the_terminal(lab: Leaderboard) -> None:
    assert max(map(len, to_text(lab).splitlines())) <= WIDTH
    assert len(to_text(lab, tables=False)) < len(to_text(lab)) / 2


def test_csv_has_every_row_and_every_missing_cell(lab: Leaderboard) -> None:
    found = list(csv.DictReader(io.StringIO(to_csv(lab))))
    assert len(found) == sum(len(t.rows) for t in lab.tables) + len(lab.missing)
    one = next(r for r in found if (r["task"], r["backbone"], r["repair"]) == (LINEAR, "lab_ssl", "zscore"))
    row = rows(lab, LINEAR)["lab_ssl", "zscore"]
    assert float(one["value"]) == pytest.approx(row.value)
    assert row.difference is not None
    assert float(one["difference"]) == pytest.approx(row.difference.delta, rel=1e-6)
    assert {r["status"] for r in found} == {"ok", "not_applicable"}


def test_json_is_strict_json_with_all_tables(lab: Leaderboard) -> None:
    data: dict[str, Any] = json.loads(to_json(lab), parse_constant=lambda c: pytest.fail(c))
    assert [t["task"] for t in data["tables"]] == [t.task for t in lab.tables]


def test_what_records_say_is_text_in_markdown(absent: Callable[..., Record], loaded: Callable[..., Loaded]) -> None:
    text = to_markdown(build(loaded(absent("lab_ssl", "none", LINEAR, "failed", "<script>a|b</script> `x`"))))
    assert "<script>" not in text
    assert "a\\|b" in text


def test_markdown_tables_have_as_many_cells_as_columns(lab: Leaderboard) -> None:
    for block in to_markdown(lab).split("\n\n"):
        lines = [line.replace("\\|", "") for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1


def test_flags_are_explained_below_the_table(scored: Callable[..., Record], loaded: Callable[..., Loaded]) -> None:
    entry = Entry.of(scored("lab_ssl", "none", LINEAR, 50))._replace(flags=("repair_fitted_on_evaluation_data",))
    text = to_text(build(Loaded((entry,))))
    assert "lab_ssl†" in text
    assert "† lab_ssl none: repair_fitted_on_evaluation_data" in text


def test_files_that_are_no_records_are_warned_about(
    scored: Callable[..., Record], loaded: Callable[..., Loaded]
) -> None:
    board = replace(
        build(loaded(scored("lab_ssl", "none", LINEAR, 50))),
        problems=tuple(f"x{i}.json is truncated" for i in range(9)),
    )
    text = to_text(board)
    assert "warning: x0.json is truncated" in text
    assert "and 4 more" in text
