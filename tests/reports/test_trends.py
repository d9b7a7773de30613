"""Trends start where the measurement was last another one, and steps say what lies between the nights."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from vitbench.identity import Slot
from vitbench.records.history import Point
from vitbench.reports.comparison import Comparison
from vitbench.reports.nightly import Night, change_text, chart, nightly_html, nightly_markdown, places
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
    assert "mIoU worse by −3 points [−3, −3]" in change_text(trend, change)
    (place,) = places([trend])
    assert place == (f"2026-01-04 to 2026-01-05: {change.where}", [(change_text(trend, change), True)])


def test_a_step_without_new_code_or_weights_says_so() -> None:
    (trend,) = found(point(1, 66.0, commit="a" * 40), point(2, 60.0, commit="a" * 40))
    assert trend.changes[0].where == "same code and weights: the machine or a dependency"


def test_nights_of_one_day_are_told_apart_by_the_hour() -> None:
    first, second = point(1, 66.0), replace(point(1, 60.0), night="2026-01-01T13:30:00Z")
    (trend,) = found(first, second)
    assert (trend.when(first), trend.when(second)) == ("2026-01-01 00:00", "2026-01-01 13:30")


def test_nights_of_another_measurement_are_left_out() -> None:
    (trend,) = found(point(1, 20.0, comparable="old"), point(2, 66.0), point(3, 66.0))
    assert (len(trend.points), trend.earlier, trend.changes) == (2, 1, ())
    assert chart(trend)["span"] == "2026-01-02 to 2026-01-03; 1 night of another measurement left out"


def test_newest_steps_come_first() -> None:
    other = replace(SLOT, backbone="lab_mae")
    quiet = replace(SLOT, backbone="lab_aaa")
    early = [point(n, 60.0 if n < 2 else 66.0) for n in range(1, 6)]
    late = [point(n, 60.0 if n < 4 else 66.0, other) for n in range(1, 6)]
    still = [point(n, 60.0, quiet) for n in range(1, 6)]
    assert [t.slot.backbone for t in found(*early, *late, *still)] == ["lab_mae", "lab_ssl", "lab_aaa"]


def checkpoint(step: int, value: float, night: int = 1, rest: str = "") -> Point:
    return point(night, value, replace(SLOT, backbone=f"my@{step}{rest}"), commit="a" * 40, weights=f"w{step}")


def test_checkpoints_are_one_series_in_which_only_what_got_worse_is_a_change() -> None:
    values = {1000: 50.0, 200: 40.0, 3000: 57.0, 2000: 60.0, 4000: 57.3}
    early = [checkpoint(step, value - 0.1, night=1) for step, value in values.items() if step < 3000]
    late = [replace(p, source=f"{p.slot.backbone[3:]}.pth") for p in (checkpoint(*v, night=2) for v in values.items())]
    (trend,) = found(*early, *late)
    assert trend.slot.backbone == "my@{step}"
    assert trend.steps == (200, 1000, 2000, 3000, 4000)
    assert [p.value for p in trend.points] == [40.0, 50.0, 60.0, 57.0, 57.3]
    (change,) = trend.changes
    assert change_text(trend, change).endswith("mIoU worse by −3 points [−3, −3]")
    assert places([trend])[0][0] == "step 2000 to step 3000: weights 2000.pth (w2000)..3000.pth (w3000)"
    assert chart(trend)["span"] == "step 200 to step 4000"


def test_a_checkpoint_that_changes_over_the_nights_is_drawn_for_itself_too() -> None:
    first, second = ([checkpoint(100, 50.0, n), checkpoint(200, value, n)] for n, value in ((1, 60.0), (2, 52.0)))
    assert [t.slot.backbone for t in found(*first, *second)] == ["my@200", "my@{step}"]
    assert [t.slot.backbone for t in found(checkpoint(100, 50.0, 1), checkpoint(100, 50.0, 2))] == ["my@100"]


def test_what_the_newest_night_changed_is_seen_although_the_nights_before_scatter() -> None:
    values = (66.0, 62.0, 65.0, 63.0, 66.0)
    quiet, loud = ([point(n, v, weights=f"w{n}") for n, v in enumerate((*values, last), 1)] for last in (66.2, 60.0))
    assert found(*quiet)[0].changes == ()
    (change,) = found(*loud)[0].changes
    assert (change.step.at, change.is_worse, change.where.split(", ")[1]) == (5, True, "weights w5..w6")


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
    page = nightly_html(empty, series, ["regression"], Night("2026-01-03T00:00:00Z", "<b>odd</b>"))
    text = nightly_markdown(empty, series, ["regression"], Night("2026-01-03T00:00:00Z", "<b>odd</b>"))
    assert "<script" not in page
    assert "<b>odd" not in page + text
    assert "<script" not in text
    assert ("worse by" in text) == (count > 1)
    assert page.count("<svg") == 1
