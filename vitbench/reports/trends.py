"""What the nights say: per headline its series, and the steps in it with the commits or weights they lie between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitbench.identity import Slot
from vitbench.records.history import Point
from vitbench.records.steps import Step, find_steps
from vitbench.reports.cells import task_order
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
        """What changed between the two nights, as far as the history tells."""
        a, b = self.before, self.after
        parts = []
        if a.commit != b.commit:
            parts.append(f"commits {a.commit[:10] or '?'}..{b.commit[:10] or '?'}")
        if a.weights != b.weights:
            parts.append(f"weights {a.weights[:8] or '?'}..{b.weights[:8] or '?'}")
        return ", ".join(parts) or "same code and weights: the machine or a dependency"


@dataclass(frozen=True)
class Trend:
    """A headline over the nights since its measurement was last another one; `earlier` nights are left out."""

    slot: Slot
    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    earlier: int = 0


def trends(history: Iterable[Point], thresholds: Thresholds, slots: Sequence[Slot] | None = None) -> list[Trend]:
    """The series of every slot (or of the given ones), those with the newest steps first."""
    grouped: dict[Slot, list[Point]] = defaultdict(list)
    for point in history:
        grouped[point.slot].append(point)
    wanted = grouped if slots is None else [s for s in slots if s in grouped]
    made = [_trend(slot, sorted(grouped[slot], key=lambda p: p.night), thresholds) for slot in wanted]
    return sorted(made, key=_order)


def _trend(slot: Slot, points: list[Point], thresholds: Thresholds) -> Trend:
    newest = points[-1]
    kept: list[Point] = []
    for point in reversed(points):
        if (point.comparable, point.metric) != (newest.comparable, newest.metric):
            break
        kept.insert(0, point)
    least = thresholds.least(slot.task, newest.metric, newest.unit, newest.value)
    steps = find_steps([p.estimate for p in kept], least)
    changes = tuple(Change(step, kept[step.at - 1], kept[step.at]) for step in steps)
    return Trend(slot, tuple(kept), changes, len(points) - len(kept))


def _order(trend: Trend) -> tuple[object, ...]:
    newest = max((c.after.night for c in trend.changes), default="")
    return not newest, [-ord(sign) for sign in newest], task_order(trend.slot.task), trend.slot
