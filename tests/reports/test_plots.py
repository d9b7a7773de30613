"""Coordinates of plots: what is above is drawn above, ticks are round and inside."""

from __future__ import annotations

import pytest

from vitbench.reports.plots import BOTTOM, COLOURS, LEFT, RIGHT, TOP, Axis, Curve, plot


@pytest.mark.parametrize("low, high", [(0, 1), (-3.7, 41.2), (0.0021, 0.0038), (5, 5), (0, 12345)])
def test_linear_ticks_are_round_and_inside(low: float, high: float) -> None:
    axis = Axis([low, high], 0, 100)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 8
    assert all(0 <= t.at <= 100 for t in ticks)
    assert [t.at for t in ticks] == sorted(t.at for t in ticks)
    for t in ticks:
        assert axis(float(t.text)) == pytest.approx(t.at, abs=0.2)


@pytest.mark.parametrize("low, high", [(0.01, 200), (1, 9), (20, 31), (1e-9, 1e6)])
def test_logarithmic_ticks_are_inside_and_where_they_say(low: float, high: float) -> None:
    axis = Axis([low, high], 0, 100, log=True)
    ticks = axis.ticks()
    assert len(ticks) >= 2
    assert all(-0.1 <= t.at <= 100.1 and axis(float(t.text)) == pytest.approx(t.at, abs=0.2) for t in ticks)


def test_larger_values_stand_higher_and_later_ones_to_the_right() -> None:
    [series] = plot("t", [Curve("a", [1, 2, 3], [10, 30, 20])]).series
    xs, ys = [x for x, _, _ in series.dots], [y for _, y, _ in series.dots]
    assert LEFT < xs[0] < xs[1] < xs[2] <= RIGHT
    assert TOP <= ys[1] < ys[2] < ys[0] <= BOTTOM
    assert "30 at 2" in series.dots[1][2]


def test_missing_values_are_left_out_and_empty_curves_too() -> None:
    made = plot("t", [Curve("a", [1, 2, 3], [1, None, 3]), Curve("b", [1], [None])])
    assert [s.name for s in made.series] == ["a"]
    assert len(made.series[0].dots) == 2


def test_a_band_goes_there_and_back() -> None:
    [series] = plot("t", [Curve("a", [1, 2], [2, 3], [1, 2], [3, 4])]).series
    points = [tuple(map(float, p.split(","))) for p in series.band.split()]
    assert len(points) == 4
    assert points[0][0] == points[3][0]
    assert points[0][1] < points[3][1]


def test_colours_start_again_and_no_curve_is_no_error() -> None:
    many = plot("t", [Curve(str(i), [0, 1], [i, i]) for i in range(COLOURS + 1)])
    assert many.series[0].colour == many.series[-1].colour
    assert len({(s.colour, s.dash) for s in many.series}) == COLOURS + 1
    assert plot("t", []).series == ()
