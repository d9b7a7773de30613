"""Line plots as coordinates for inline SVG: the templates draw, the style sheet colours, nothing depends on a renderer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS, DASHES = 7, 3  # of the style sheet; a further line takes the first colour again, dashed
DOTS = 24  # on one line; more would hide it
WIDTH, HEIGHT, LEFT, BOTTOM = 400, 210, 46, 170
TOP, RIGHT = 10, 388


@dataclass(frozen=True)
class Curve:
    """y over x with, where given, a band and an upper line; None breaks nothing, the point is left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    upper: Sequence[float] = ()


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Series:
    """One curve in pixels: `points`, `band` and `upper` are SVG point lists, dots are (x, y, what they say)."""

    name: str
    colour: int
    dash: int
    points: str
    dots: tuple[tuple[float, float, str], ...]
    band: str = ""
    upper: str = ""


@dataclass(frozen=True)
class Plot:
    """All that the template `lines` needs."""

    title: str
    note: str
    x_name: str
    series: tuple[Series, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    legend: bool = False
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = BOTTOM


class Axis:
    """Values to pixels, linear or logarithmic, with round ticks."""

    def __init__(
        self, values: Sequence[float], start: float, end: float, log: bool = False, room: float = 0.04
    ) -> None:
        self.log, self._start, self._end = log, start, end
        low, high = min(values), max(values)
        a, b = self._shown(low), self._shown(high)
        pad = (b - a) * room or (abs(a) * 0.1 or 1.0) * (room > 0)
        self._a, self._b = a - pad, b + pad

    def _shown(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.log else value

    def __call__(self, value: float) -> float:
        share = (self._shown(value) - self._a) / ((self._b - self._a) or 1.0)
        return round(self._start + share * (self._end - self._start), 1)

    def ticks(self, count: int = 5) -> tuple[Tick, ...]:
        """Round values inside the axis."""
        found = self._log_values() if self.log else self._linear_values(count)
        return tuple(Tick(self(v), f"{v:g}") for v in found)

    def _linear_values(self, count: int) -> list[float]:
        span = self._b - self._a
        step = 10 ** math.floor(math.log10(max(span, 1e-12) / count))
        step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= count + 1)
        first = math.ceil(self._a / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(self._b / step + 1e-9) + 1)]

    def _log_values(self) -> list[float]:
        low, high = 10**self._a, 10**self._b
        if high < 4 * low:  # too short for powers of ten
            step = next(s for s in (10.0**k * m for k in range(-6, 9) for m in (1, 2, 5)) if (high - low) / s <= 5)
            return [round(i * step, 10) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
        decades = range(math.floor(self._a), math.ceil(self._b) + 1)
        steps = (1.0, 2.0, 5.0) if self._b - self._a < 3 else (1.0,)
        values = [m * 10.0**d for d in decades for m in steps]
        return [v for v in values if low <= v <= high]


def plot(
    title: str, curves: Sequence[Curve], note: str = "", x_name: str = "", *,
    log: bool = False, log_x: bool = False, legend: bool = False, dots: bool = True,
) -> Plot:  # fmt: skip
    """Curves on common axes. Curves without a single point are left out."""
    kept = [c for c in curves if any(v is not None for v in c.y)]
    xs = [x for c in kept for x in c.x] or [0.0]
    every = [v for c in kept for v in (*c.y, *c.low, *c.high, *c.upper) if v is not None] or [0.0]
    x_axis = Axis(xs, LEFT + 6, RIGHT, log_x, room=0.0)
    y_axis = Axis([v for v in every if v > 0] or [1.0] if log else every, BOTTOM, TOP, log)
    series = tuple(_series(c, i, x_axis, y_axis, dots) for i, c in enumerate(kept))
    places = sorted(set(xs))
    few = len(places) <= 13 and not log_x
    x_ticks = tuple(Tick(x_axis(x), f"{x:g}") for x in places) if few else x_axis.ticks(6)
    return Plot(title, note, x_name, series, x_ticks, y_axis.ticks(), legend)


def _series(c: Curve, place: int, x_axis: Axis, y_axis: Axis, dotted: bool) -> Series:
    dots = tuple(
        (x_axis(x), y_axis(y), f"{c.name}: {y:.4g} at {x:g}") for x, y in zip(c.x, c.y, strict=True) if y is not None
    )
    band = ""
    if c.low and c.high:
        there = [(x_axis(x), y_axis(v)) for x, v in zip(c.x, c.high, strict=True)]
        back = [(x_axis(x), y_axis(v)) for x, v in zip(c.x, c.low, strict=True)]
        band = _points([*there, *reversed(back)])
    upper = _points([(x_axis(x), y_axis(v)) for x, v in zip(c.x, c.upper, strict=True)]) if c.upper else ""
    colour, dash = place % COLOURS, place // COLOURS % DASHES
    line = _points([(x, y) for x, y, _ in dots])
    return Series(c.name, colour, dash, line, dots if dotted and len(dots) <= DOTS else (), band, upper)


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in pairs)
