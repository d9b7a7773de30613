"""The report of a night: what changed against the accepted baseline, and where a headline changed over the nights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from vitbench.reports.comparison import Comparison
from vitbench.reports.comparison_formats import sections, to_markdown, verdict
from vitbench.reports.markup import markdown
from vitbench.reports.trends import Change, Trend

_WIDTH, _HEIGHT, _EDGE = 260, 84, 6


def nightly_markdown(comparison: Comparison, found: Sequence[Trend], fail_on: Iterable[str], night: str) -> str:
    """The comparison, then the steps of the last nights."""
    nights = len({p.night for t in found for p in t.points})
    steps = [f"- {markdown(change_text(t, c))}" for t in found for c in t.changes]
    told = "\n".join(steps) if steps else "No headline has changed."
    title = f"# Night of {night[:10]}\n\n"
    body = to_markdown(comparison, fail_on).replace("# ", "## ", 1)
    return f"{title}{body}\n## Steps over {nights} night{'' if nights == 1 else 's'}\n\n{told}\n"


def change_text(trend: Trend, change: Change) -> str:
    """A step in a line: which headline, by how much, and between which commits or weights."""
    slot, step, unit = trend.slot, change.step, change.after.unit
    word = "worse" if change.is_worse else "better"
    size = (
        f"{step.delta:+.3g}{'' if unit in ('', 'fraction') else f' {unit}'} [{step.ci_low:+.3g}, {step.ci_high:+.3g}]"
    )
    when = f"{trend.when(change.before)} to {trend.when(change.after)}"
    name = f"{slot.backbone} / {slot.repair} / {slot.task} / {slot.dataset}-s{slot.seed}"
    return f"{name}: {change.after.metric} {word} by {size}, {when}: {change.where}"


def nightly_html(comparison: Comparison, found: Sequence[Trend], fail_on: Iterable[str], night: str) -> str:
    """One self-contained page: verdict, steps, what changed, and a trend line per headline."""
    from vitbench.reports.documents import render

    ordered = sorted(found, key=lambda t: (t.slot.task, t.slot.dataset, t.slot))
    charts = [
        (f"{task} on {dataset}", [chart(t) for t in members])
        for (task, dataset), members in groupby(ordered, key=lambda t: (t.slot.task, t.slot.dataset))
    ]
    return render(
        "nightly.html",
        title=f"Night of {night[:10]}",
        verdict=verdict(comparison, fail_on),
        steps=[(change_text(t, c), c.is_worse) for t in found for c in t.changes],
        charts=charts,
        width=_WIDTH,
        height=_HEIGHT,
        **sections(comparison),
    )


def chart(trend: Trend) -> dict[str, object]:
    """A trend line as coordinates of a small SVG: line, band of the 95 % intervals, and a rule where it stepped."""
    points = trend.points
    ends = [x for p in points for x in (p.value, p.ci_low, p.ci_high) if x is not None]
    low, high = min(ends), max(ends)
    span = (high - low) or max(abs(high), 1.0) * 0.02

    def x(i: float) -> float:
        return round(_EDGE + (_WIDTH - 2 * _EDGE) * (i / max(len(points) - 1, 1)), 1)

    def y(value: float) -> float:
        return round(_HEIGHT - _EDGE - (_HEIGHT - 2 * _EDGE) * (value - low) / span, 1)

    upper = [(x(i), y(p.ci_high)) for i, p in enumerate(points) if p.ci_high is not None]
    lower = [(x(i), y(p.ci_low)) for i, p in enumerate(points) if p.ci_low is not None]
    last = points[-1]
    unit = "" if last.unit in ("", "fraction") else f" {last.unit}"
    return {
        "name": f"{trend.slot.backbone} / {trend.slot.repair}" + (f" s{trend.slot.seed}" if trend.slot.seed else ""),
        "value": f"{last.metric} {last.value:.4g}{unit} {'↑' if last.higher_is_better else '↓'}",
        "band": _path([*upper, *reversed(lower)]) + "Z" if len(points) > 1 and upper and lower else "",
        "line": _path([(x(i), y(p.value)) for i, p in enumerate(points)]),
        "dots": [
            (x(i), y(p.value), f"{trend.when(p)} {p.commit[:10]}: {p.value:.4g}{unit}") for i, p in enumerate(points)
        ],
        "steps": [(x(c.step.at - 0.5), c.is_worse, c.where) for c in trend.changes],
        "span": " to ".join(dict.fromkeys(trend.when(p) for p in (points[0], last))),
    }


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)
