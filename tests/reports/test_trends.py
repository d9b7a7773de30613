"""Trends start where the measurement was last another one, and steps say what lies between the nights."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from vitbench.identity import Slot
from vitbench.records.history import Point
from vitbench.reports.comparison import Comparison
from vitbench.reports.nightly import change_text, chart, nightly_html, nightly_markdown
from vitbench.reports.thresholds import load_thresholds
from vitbench.reports.trends import Trend, trends

SLOT = Slot("lab_ssl", "none", "knn_segmentation@hummingbird", "scenes", 0)
NOISE = np.random.default_rng(0).normal(0, 0.7, 200)


def point(
    night: int, value: float, slot: Slot = SLOT, commit: str = "", weights: str = "w0", comparable: str = "c"
) -> Point:
    return Point(
        f"2026-01-{night:02d}T00:00:00Z", commit or f"{night:040d}", weights, slot, "mIoU", "%", True, value,
        value - 1, value + 1, 80, comparable, "k", (value + NOISE).astype(np.float32),
    )  # fmt: skip


def found(*points: Point) -> list[Trend]:
    return trends(points, load_thresholds())


def test_a_step_names_commits_and_weights_between_its_nights() -> None:
    points = [point(n, 66.0 if n < 5 else 63.0, weights="w0" if n < 5 else "w1") for n in range(1, 9)]
    (trend,) = found(*reversed(points))
    (change,) = trend.changes
    assert (change.is_worse, change.before.night[:10], change.after.night[:10]) == (True, "2026-01-04", "2026-01-05")
    assert change.where == f"commits {'0' * 10}..{'0' * 10}, weights w0..w1"
    assert "mIoU worse by -3 % [-3, -3], 2026-01-04 to 2026-01-05" in change_text(trend, change)


def test_a_step_without_new_code_or_weights_says_so() -> None:
    (trend,) = found(point(1, 66.0, commit="a" * 40), point(2, 60.0, commit="a" * 40))
    assert trend.changes[0].where == "same code and weights: the machine or a dependency"


def test_nights_of_another_measurement_are_left_out() -> None:
    (trend,) = found(point(1, 20.0, comparable="old"), point(2, 66.0), point(3, 66.0))
    assert (len(trend.points), trend.earlier, trend.changes) == (2, 1, ())


def test_newest_steps_come_first() -> None:
    other = replace(SLOT, backbone="lab_mae")
    quiet = replace(SLOT, backbone="lab_aaa")
    early = [point(n, 60.0 if n < 2 else 66.0) for n in range(1, 6)]
    late = [point(n, 60.0 if n < 4 else 66.0, other) for n in range(1, 6)]
    still = [point(n, 60.0, quiet) for n in range(1, 6)]
    assert [t.slot.backbone for t in found(*early, *late, *still)] == ["lab_mae", "lab_ssl", "lab_aaa"]


def test_a_chart_stays_inside_its_frame_whatever_the_values() -> None:
    for series in ([point(1, 66.0)], [point(n, 66.0) for n in range(1, 40)], [point(n, 10.0**n) for n in range(1, 9)]):
        (trend,) = found(*series)
        drawn = chart(trend)
        numbers = [float(x) for x in re.findall(r"-?[\d.]+", str(drawn["line"]) + str(drawn["band"]))]
        assert numbers
        assert all(0 <= x <= 260 for x in numbers)


@pytest.mark.parametrize("count", [1, 3])
def test_the_report_shows_steps_and_escapes_names(count: int) -> None:
    odd = replace(SLOT, backbone="<script>x</script>")
    series = found(*[point(n, 66.0 if n < 2 else 60.0, odd) for n in range(1, count + 1)])
    empty = Comparison("results", "this night", ())
    page = nightly_html(empty, series, ["regression"], "2026-01-03T00:00:00Z")
    text = nightly_markdown(empty, series, ["regression"], "2026-01-03T00:00:00Z")
    assert "<script" not in page
    assert "<script" not in text
    assert ("worse by" in text) == (count > 1)
    assert page.count("<svg") == 1
