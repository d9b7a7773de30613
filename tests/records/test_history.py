"""The history gives back what the nights measured, and names what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vitbench.identity import Slot
from vitbench.records.history import History, Weights, read_history, write_night
from vitbench.records.index import Entry
from vitbench.records.inference import paired_difference


def entry(value: float | None = 66.0, backbone: str = "lab_ssl", status: str = "ok", shift: float = 0.0) -> Entry:
    draws = (66.0 + shift + np.random.default_rng(0).normal(0, 0.7, 1000)).astype(np.float32)
    slot = Slot(backbone, "none", "knn_segmentation@hummingbird", "scenes", 0)
    return Entry(
        "p", slot, "0" * 16, status, metric="mIoU", unit="%", value=value, ci_low=65.0, ci_high=67.0, n=80, draws=draws,
        draws_key="ab", comparable="cd",
    )  # fmt: skip


def test_a_night_is_one_short_line_a_headline(tmp_path: Path) -> None:
    path = write_night(
        tmp_path,
        [entry(), entry(backbone="lab_sup")],
        "2026-01-02T03:04:05.6Z",
        "c" * 40,
        lambda e: Weights("w", "last.pth"),
    )
    assert path.name == "20260102T030405.6Z-cccccccccc.jsonl"
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) < 1000
    point = read_history(tmp_path).points[0]
    assert (point.value, point.commit, point.metric) == (66.0, "c" * 40, "mIoU")
    assert (point.weights, point.source) == ("w", "last.pth")
    assert point.draws is not None
    np.testing.assert_allclose(point.draws, entry().draws[:200], atol=2e-3)  # type: ignore[index]


def test_the_paired_difference_of_two_nights_survives_the_short_form(tmp_path: Path) -> None:
    a, b = entry(), entry(65.5, shift=-0.5)
    for n, e in enumerate((a, b)):
        write_night(tmp_path, [e], f"2026-01-0{n + 1}T00:00:00Z", str(n) * 40, lambda e: Weights(""))
    first, second = read_history(tmp_path).points
    short = paired_difference(second.estimate, first.estimate)
    assert short.delta == pytest.approx(-0.5)
    assert (short.ci_low, short.ci_high) == pytest.approx((-0.5, -0.5), abs=0.01)


def test_two_runs_within_a_second_are_two_nights(tmp_path: Path) -> None:
    for fraction in ("100000", "200000"):
        write_night(tmp_path, [entry()], f"2026-01-01T00:00:00.{fraction}Z", "c" * 40, lambda e: Weights(""))
    assert len(read_history(tmp_path).points) == 2


def test_cells_without_a_number_are_no_points(tmp_path: Path) -> None:
    write_night(tmp_path, [entry(None), entry(status="failed")], "2026-01-01T00:00:00Z", "", lambda e: Weights(""))
    assert read_history(tmp_path) == read_history(tmp_path / "nowhere") == History()


def test_a_value_without_replicates_is_kept(tmp_path: Path) -> None:
    write_night(tmp_path, [entry()._replace(draws=None)], "2026-01-01T00:00:00Z", "", lambda e: Weights(""))
    (point,) = read_history(tmp_path).points
    assert (point.value, point.draws) == (66.0, None)


def test_a_damaged_line_is_named_and_takes_no_other_with_it(tmp_path: Path) -> None:
    path = write_night(tmp_path, [entry(), entry()], "2026-01-01T00:00:00Z", "", lambda e: Weights(""))
    path.write_bytes(path.read_bytes()[:-40] + b"\xff\n")
    (tmp_path / "new.jsonl").write_text(json.dumps({"v": 99}))
    found = read_history(tmp_path)
    assert len(found.points) == 1
    broken, newer = found.problems
    assert f"{path.name}, line 2 is truncated or no line of a history" in broken
    assert "new.jsonl, line 1 was written by a newer vitbench" in newer
