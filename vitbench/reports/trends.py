"""What the nights say: per headline its series, and the steps in it with the commits or weights they lie between.

Checkpoints of one training are a series of their own, along the steps of the training: its level is meant to change, so
only what got worse from one checkpoint to the next is a change there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vitbench.identity import Slot
from vitbench.records.history import Point
from vitbench.records.inference import ALPHA, paired_difference
from vitbench.records.steps import Step, find_steps
from vitbench.reports.cells import task_order
from vitbench.reports.checkpoints import series_of
from vitbench.reports.thresholds import Thresholds


@dataclass(frozen=True)
class Change:
    """A step, and the last night before and the first night after it."""

    step: Step
    before: Point
    after: Point

    @property
    def is_worse(self) -> bool:
        return (self.step.delta < 0) == self.after.higher_is_better

    @property
    def where(self) -> str:
        """What changed between the two, as far as the history tells."""
        a, b = self.before, self.after
        parts = []
        if a.commit != b.commit:
            parts.append(f"commits {a.commit[:10] or '?'}..{b.commit[:10] or '?'}")
        if a.weights != b.weights:
            parts.append(f"weights {_weights(a)}..{_weights(b)}")
        return ", ".join(parts) or "same code and weights: the machine or a dependency"


def _weights(point: Point) -> str:
    digest = point.weights[:8] or "?"
    return f"{point.source} ({digest})" if point.source else digest


@dataclass(frozen=True)
class Trend:
    """A headline over the nights since its measurement was last another one; `earlier` nights are left out.

    steps: of checkpoints of one training, the training step of every point; their slot is that of `NAME@{step}`.
    """

    slot: Slot
    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    earlier: int = 0
    steps: tuple[int, ...] = ()

    def when(self, point: Point) -> str:
        """Where a point stands: its checkpoint, or its night, with the hour where a day has several."""
        if self.steps:
            return next(f"step {n}" for n, p in zip(self.steps, self.points, strict=True) if p is point)
        days = [p.night[:10] for p in self.points]
        return point.night[:10] if days.count(point.night[:10]) < 2 else point.night[:16].replace("T", " ")


def trends(history: Iterable[Point], thresholds: Thresholds, slots: Sequence[Slot] | None = None) -> list[Trend]:
    """The series of every slot (or of the given ones), those with the newest steps first.

    Checkpoints are drawn along their steps; over the nights only those that changed although they are the same.
    """
    grouped: dict[Slot, list[Point]] = defaultdict(list)
    for point in history:
        grouped[point.slot].append(point)
    wanted = list(grouped) if slots is None else [s for s in slots if s in grouped]
    nights = {
        slot: _trend(slot, sorted(grouped[slot], key=lambda p: p.night), thresholds, len(wanted)) for slot in wanted
    }
    checkpoints: dict[Slot, dict[int, Point]] = defaultdict(dict)
    for slot, trend in nights.items():
        if place := series_of(slot):
            checkpoints[place[0]][place[1]] = trend.points[-1]
    series = [_along_steps(slot, points, thresholds) for slot, points in checkpoints.items() if len(points) > 1]
    drawn = {p.slot for trend in series for p in trend.points}
    made = [*series, *(t for slot, t in nights.items() if slot not in drawn or t.changes)]
    return sorted(made, key=_order)


def _along_steps(slot: Slot, found: dict[int, Point], thresholds: Thresholds) -> Trend:
    """Checkpoints as they were last measured, and where one is worse than the one before it."""
    newest = found[max(found)]
    kept = [(n, p) for n, p in sorted(found.items()) if (p.comparable, p.metric) == (newest.comparable, newest.metric)]
    points = tuple(p for _, p in kept)
    pairs = enumerate(pairwise(points), 1)
    changes = [_change(slot, a, b, at, thresholds, len(points) - 1) for at, (a, b) in pairs]
    worse = tuple(c for c in changes if c is not None and c.is_worse)
    return Trend(slot, points, worse, len(found) - len(kept), tuple(n for n, _ in kept))


def _trend(slot: Slot, points: list[Point], thresholds: Thresholds, headlines: int) -> Trend:
    newest = points[-1]
    kept: list[Point] = []
    for point in reversed(points):
        if (point.comparable, point.metric) != (newest.comparable, newest.metric):
            break
        kept.insert(0, point)
    least = thresholds.least(slot.task, newest.metric, newest.unit, newest.value)
    steps = find_steps([p.estimate for p in kept], least)
    changes = [Change(step, kept[step.at - 1], kept[step.at]) for step in steps]
    last = len(kept) - 1
    if last > 0 and all(c.step.at != last for c in changes):
        # How a series scatters is learnt over weeks; what the newest night changed is to be seen at once.
        change = _change(slot, kept[-2], kept[-1], last, thresholds, headlines)
        changes += [change] if change else []
    return Trend(slot, tuple(kept), tuple(changes), len(points) - len(kept))


def _change(slot: Slot, before: Point, after: Point, at: int, thresholds: Thresholds, tests: int) -> Change | None:
    """What lies between two neighbours, if the paired test (Bonferroni over `tests`) and the threshold both see it."""
    gap = paired_difference(after.estimate, before.estimate)
    if gap.p is None or gap.ci_low is None or gap.ci_high is None:
        return None
    p = min(1.0, gap.p * tests)
    least = thresholds.least(slot.task, before.metric, before.unit, before.value)
    if p >= ALPHA or abs(gap.delta) < least:
        return None
    return Change(Step(at, gap.delta, gap.ci_low, gap.ci_high, p), before, after)


def _order(trend: Trend) -> tuple[object, ...]:
    newest = max((c.after.night for c in trend.changes), default="")
    return not newest, [-ord(sign) for sign in newest], task_order(trend.slot.task), trend.slot
