"""The report of a night: what changed against the accepted baseline, and where a headline changed over the nights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from vitbench.reports.cells import task_order
from vitbench.reports.comparison import Comparison
from vitbench.reports.comparison_formats import sections, to_markdown, to_text, verdict
from vitbench.reports.markup import markdown
from vitbench.reports.trends import Change, Trend

_WIDTH, _HEIGHT, _LEFT, _EDGE = 260, 84, 34, 6


@dataclass(frozen=True)
class Night:
    """Which night it was: UTC in ISO 8601, the suite, the commit of vitbench (empty where there is none), all nights."""

    utc: str
    suite: str
    commit: str = ""
    nights: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.suite}, night of {self.utc[:10]}"

    @property
    def facts(self) -> str:
        """One line: how much history there is, and what measured."""
        many = len(self.nights) > 1
        count = f"night {len(self.nights)} since {min(self.nights)[:10]}" if many else "the first night"
        return f"{count} · {self.utc[11:16]} UTC" + (f" · vitbench at {self.commit[:10]}" if self.commit else "")


def nightly_markdown(comparison: Comparison, found: Sequence[Trend], fail_on: Iterable[str], night: Night) -> str:
    """The comparison, then the steps of the last nights."""
    steps = []
    for head, changes in places(found):
        steps += [f"- {markdown(head)}", *(f"  - {markdown(text)}" for text, _ in changes)]
    told = "\n".join(steps) if steps else _quiet(found)
    body = to_markdown(comparison, fail_on).replace("# ", "## ", 1)
    return f"# {markdown(night.title)}\n\n{markdown(night.facts)}\n\n{body}\n## Steps\n\n{told}\n"


def nightly_text(comparison: Comparison, found: Sequence[Trend], fail_on: Iterable[str], night: Night) -> str:
    """The same for a terminal."""
    steps = []
    for head, changes in places(found):
        steps += [head, *(f"  {'▼' if worse else '▲'} {text}" for text, worse in changes)]
    told = "\n".join(steps) if steps else _quiet(found)
    return f"{night.title}\n{night.facts}\n\n{to_text(comparison, fail_on)}\nSTEPS\n{told}\n"


def places(found: Sequence[Trend]) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Where headlines stepped, each place with its steps as text and whether they are for the worse."""
    out: dict[str, list[tuple[str, bool]]] = {}
    for trend in found:
        for change in trend.changes:
            head = f"{trend.when(change.before)} to {trend.when(change.after)}: {change.where}"
            out.setdefault(head, []).append((change_text(trend, change), change.is_worse))
    return list(out.items())


def _quiet(found: Sequence[Trend]) -> str:
    """What is said where no step was found."""
    if all(len(t.points) < 2 for t in found):
        return "A step needs two nights, or two checkpoints."
    series = " No checkpoint is worse than the one before it." if any(t.steps for t in found) else ""
    return "No headline stepped, over the nights or since the last one." + series


def change_text(trend: Trend, change: Change) -> str:
    """A step in a line: which headline, and by how much."""
    slot, step, unit = trend.slot, change.step, change.after.unit
    word = "worse" if change.is_worse else "better"
    told = {"": "", "fraction": "", "%": " points"}.get(unit, f" {unit}")
    size = f"{step.delta:+.3g}{told} [{step.ci_low:+.3g}, {step.ci_high:+.3g}]".replace("-", "−")
    name = f"{slot.backbone} / {slot.repair} / {slot.task} / {slot.dataset}-s{slot.seed}"
    return f"{name}: {change.after.metric} {word} by {size}"


def nightly_html(comparison: Comparison, found: Sequence[Trend], fail_on: Iterable[str], night: Night) -> str:
    """One self-contained page: verdict, steps, what changed, and a trend line per headline."""
    from vitbench.reports.documents import render

    accepted = {p.slot: p.baseline for p in comparison.pairs if not p.against and p.status != "not comparable"}
    ordered = sorted(found, key=lambda t: (task_order(t.slot.task), t.slot.task, t.slot.dataset, t.slot))
    charts = [
        (f"{task} on {dataset}", [chart(t, accepted.get(t.slot)) for t in members])
        for (task, dataset), members in groupby(ordered, key=lambda t: (t.slot.task, t.slot.dataset))
    ]
    return render(
        "nightly.html",
        title=night.title,
        facts=night.facts,
        fails=bool(comparison.failing(fail_on)),
        verdict=verdict(comparison, fail_on),
        places=places(found),
        quiet=_quiet(found),
        charts=charts,
        width=_WIDTH,
        height=_HEIGHT,
        **sections(comparison),
    )


def chart(trend: Trend, accepted: float | None = None) -> dict[str, object]:
    """A trend line as coordinates of a small SVG: line, 95 % intervals, the accepted value, and a rule where it stepped."""
    points = trend.points
    ends = [x for p in points for x in (p.value, p.ci_low, p.ci_high) if x is not None]
    ends += [] if accepted is None else [accepted]
    low, high = min(ends), max(ends)
    span = (high - low) or max(abs(high), 1.0) * 0.02

    def x(i: float) -> float:
        share = i / (len(points) - 1) if len(points) > 1 else 0.5
        return round(_LEFT + (_WIDTH - _LEFT - _EDGE) * share, 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * (value - low) / span, 1)

    upper = [(x(i), y(p.ci_high)) for i, p in enumerate(points) if p.ci_high is not None]
    lower = [(x(i), y(p.ci_low)) for i, p in enumerate(points) if p.ci_low is not None]
    last = points[-1]
    unit = "" if last.unit in ("", "fraction") else f" {last.unit}"
    interval = "" if last.ci_low is None or last.ci_high is None else f" [{last.ci_low:.4g}, {last.ci_high:.4g}]"
    return {
        "name": f"{trend.slot.backbone} / {trend.slot.repair}" + (f" s{trend.slot.seed}" if trend.slot.seed else ""),
        "value": f"{last.metric} {last.value:.4g}{unit} {'↑' if last.higher_is_better else '↓'}",
        "interval": interval,
        "band": _path([*upper, *reversed(lower)]) + "Z" if len(points) > 1 and upper and lower else "",
        "bars": [(x(0), a[1], b[1]) for a, b in zip(upper, lower, strict=False)] if len(points) == 1 else [],
        "line": _path([(x(i), y(p.value)) for i, p in enumerate(points)]),
        "accepted": None
        if accepted is None
        else (_LEFT, _WIDTH - _EDGE, y(accepted), f"accepted: {accepted:.4g}{unit}"),
        "ticks": [(y(v), f"{v:.3g}") for v in dict.fromkeys((high, low))],
        "dots": [
            (x(i), y(p.value), f"{trend.when(p)} {p.commit[:10]}: {p.value:.4g}{unit}") for i, p in enumerate(points)
        ],
        "steps": [(x(c.step.at - 0.5), c.is_worse, c.where) for c in trend.changes],
        "span": " to ".join(dict.fromkeys(trend.when(p) for p in (points[0], last))) + _left_out(trend),
    }


def _left_out(trend: Trend) -> str:
    if not trend.earlier:
        return ""
    what = "checkpoint" if trend.steps else "night"
    return f"; {trend.earlier} {what}{'s' if trend.earlier > 1 else ''} of another measurement left out"


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)
