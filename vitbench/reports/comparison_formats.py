"""A comparison written out: text for a terminal, Markdown, HTML, JSON and JUnit XML for a CI's test page."""

from __future__ import annotations

import json
import math
import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from itertools import groupby
from xml.etree import ElementTree as ET

from tabulate import tabulate

from vitbench.reports.cells import task_order
from vitbench.reports.comparison import STATUSES, Comparison, CostChange, Pair
from vitbench.reports.grids import WIDTH
from vitbench.reports.markup import markdown, xml

NOTHING = "–"
HEADERS = ("backbone", "repair", "task", "dataset", "metric", "before", "now", "Δ", "95 %", "q", "matters from", "why")
_TEXTS = {0, 1, 2, 3, 4, 11}
_TITLES = {
    "regressed": "Regressed",
    "failed": "Failed",
    "missing": "Missing",
    "not comparable": "Not comparable",
    "drifted": "Drifted",
    "improved": "Improved",
    "new": "New",
}
FAIL_ON = ("regression", "missing", "failed", "not comparable", "drifted", "slower")
_SHOWN = 50


def verdict(comparison: Comparison, fail_on: Iterable[str]) -> str:
    """One line: whether it holds, and the counts."""
    failing = comparison.failing(fail_on)
    counts = ", ".join(f"{n} {status}" for status, n in comparison.counts.items()) or "nothing to compare"
    costlier = sum(bool(p.costs) for p in comparison.pairs)
    quiet = "no cell fails" if any(p.is_regression for p in comparison.pairs) else "no regression"
    head = f"{len(failing)} of {len(comparison.pairs)} cells fail" if failing else quiet
    parts = [head, counts]
    if costlier:
        parts.append(f"{costlier} costlier")
    if comparison.seconds_ratio is not None:
        parts.append(f"time x{comparison.seconds_ratio:.2f} on the same machine")
    return " · ".join(parts)


def row(pair: Pair) -> tuple[str, ...]:
    """A pair as short texts, one per column of HEADERS."""
    write = _writer(pair)
    change, slot = pair.difference, pair.slot
    interval = NOTHING
    if change is not None and change.ci_low is not None and change.ci_high is not None:
        interval = f"[{write(change.ci_low, '+')}, {write(change.ci_high, '+')}]"
    unit = "" if pair.unit in ("", "fraction") else f" {pair.unit}"
    return (
        *(slot.backbone, slot.repair, slot.task, slot.dataset + (f" s{slot.seed}" if slot.seed else "")),
        pair.metric + unit,
        write(pair.baseline),
        write(pair.candidate),
        _delta(change.delta, write) if change else NOTHING,
        interval,
        NOTHING if pair.p_adjusted is None else f"{pair.p_adjusted:.2g}",
        NOTHING if pair.threshold is None else write(pair.threshold),
        why(pair),
    )


def _delta(delta: float, write: Callable[..., str]) -> str:
    """A change; one too small for the digits of the values by its size, so that what moved is not written as nothing."""
    text = write(delta, "+")
    return text if not delta or text.strip("0.") else f"{delta:+.1g}".replace("-", "−")


def why(pair: Pair) -> str:
    """The note of a pair, what it was held against if not its own baseline, and which parts of the identity differ."""
    against = f"against {pair.against}" if pair.against else ""
    changed = [part for part in pair.changed if not (against and part.startswith("backbone."))]
    differs = f"differs: {', '.join(changed)}" if changed else ""
    return "; ".join(part for part in (against, " ".join(pair.note.split()), differs) if part)


def cost_text(change: CostChange) -> str:
    """A cost before and now."""
    if change.unit == "bytes":
        return f"{change.name} {change.baseline / 2**20:.0f} -> {change.candidate / 2**20:.0f} MiB"
    return f"{change.name} {change.baseline:.3g} -> {change.candidate:.3g} {change.unit}".rstrip()


def _writer(pair: Pair) -> Callable[..., str]:
    size = max((abs(v) for v in (pair.baseline, pair.candidate) if v is not None), default=0.0)
    decimals = 2 if pair.unit == "%" or size == 0 else max(0, min(6, 3 - math.floor(math.log10(size))))

    def write(value: float | None, sign: str = "") -> str:
        if value is None:
            return NOTHING
        text = f"{value:{sign}.{decimals}f}"
        return text.replace("-", "−") if text.strip("+-0.") else f"{0:.{decimals}f}"

    return write


def to_markdown(comparison: Comparison, fail_on: Iterable[str] = ("regression",)) -> str:
    """GitHub Markdown: what needs a look, status by status; the unchanged are only counted."""
    blocks = [
        f"# {markdown(comparison.candidate)} against {markdown(comparison.baseline)}",
        verdict(comparison, fail_on),
    ]
    blocks += [f"warning: {markdown(problem)}" for problem in comparison.problems]
    for status, members in groupby(comparison.pairs, key=lambda p: p.status):
        pairs = list(members)
        if status == "unchanged":
            continue
        blocks.append(f"## {_TITLES[status]} ({len(pairs)})")
        blocks.append(_table([row(p) for p in pairs[:_SHOWN]]))
        if len(pairs) > _SHOWN:
            blocks.append(f"and {len(pairs) - _SHOWN} more")
    costly = [p for p in comparison.pairs if p.costs]
    if costly:
        blocks.append(f"## Costlier ({len(costly)})")
        lines = [f"- {markdown(_name(p))}: {', '.join(cost_text(c) for c in p.costs)}" for p in costly]
        blocks.append("\n".join(lines[:_SHOWN]))
    return "\n\n".join(blocks) + "\n"


def to_text(comparison: Comparison, fail_on: Iterable[str] = ("regression",)) -> str:
    """For a terminal: the same, a table per status with a line above the cells of each task."""
    blocks = [f"{comparison.candidate} against {comparison.baseline}\n{verdict(comparison, fail_on)}"]
    blocks += [_filled(f"warning: {problem}") for problem in comparison.problems]
    for status, members in groupby(comparison.pairs, key=lambda p: p.status):
        if status != "unchanged":
            pairs = list(members)
            more = f"\nand {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
            body = _text_list(pairs[:_SHOWN]) if status in ("failed", "missing") else _text_table(pairs[:_SHOWN])
            blocks.append(f"{_TITLES[status].upper()} ({len(pairs)})\n{body}{more}")
    costly = [p for p in comparison.pairs if p.costs]
    if costly:
        lines = [f"{_name(p)}: {', '.join(cost_text(c) for c in p.costs)}" for p in costly]
        blocks.append("\n".join([f"COSTLIER ({len(costly)})", *lines[:_SHOWN]]))
    return "\n\n".join(blocks) + "\n"


def _text_list(pairs: list[Pair]) -> str:
    """Cells without numbers: each reason once, and the cells below it."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        by_reason[why(pair)].append(f"  {_name(pair)}")
    lines = [line for reason, cells in by_reason.items() for line in (_filled(reason), *cells)]
    return "\n".join(lines)


def _filled(text: str) -> str:
    """Lines of the usual width that leave paths and names whole."""
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def _text_table(pairs: list[Pair]) -> str:
    heads, parts = _shown(pairs)
    aligned = ["right" if kind == "n" else "left" for _, kind in heads]
    rows = [row for _, rows in parts for row in rows]
    drawn = tabulate(rows, [h for h, _ in heads], tablefmt="simple", disable_numparse=True, colalign=aligned)
    *above, rule = drawn.splitlines()[:2]
    lines = iter(drawn.splitlines()[2:])
    found = [*above, rule]
    for title, members in parts:
        found += [title, *(next(lines).rstrip() for _ in members)]
    return "\n".join(found)


def _name(pair: Pair) -> str:
    slot = pair.slot
    return f"{slot.backbone} / {slot.repair} / {slot.task} / {slot.dataset}-s{slot.seed}"


def _table(rows: list[tuple[str, ...]]) -> str:
    kept = _kept(rows)
    aligned = ["left" if i in _TEXTS else "right" for i in kept]
    body = [[markdown(r[i]) for i in kept] for r in rows]
    return tabulate(body, [HEADERS[i] for i in kept], tablefmt="pipe", disable_numparse=True, colalign=aligned)


def _kept(rows: list[tuple[str, ...]]) -> list[int]:
    """The columns in which any row has something."""
    return [i for i in range(len(HEADERS)) if any(r[i] not in ("", NOTHING) for r in rows)]


def to_html(comparison: Comparison, fail_on: Iterable[str] = ("regression",)) -> str:
    """One self-contained page."""
    from vitbench.reports.documents import render

    title = f"{comparison.candidate} against {comparison.baseline}"
    return render("comparison.html", title=title, verdict=verdict(comparison, fail_on), **sections(comparison))


def sections(comparison: Comparison) -> dict[str, object]:
    """What the template of a comparison shows: its pairs as texts, by status, and what costs more."""
    groups = [(status, [p for p in comparison.pairs if p.status == status]) for status in STATUSES]
    return {
        "problems": comparison.problems,
        "groups": [(_TITLES.get(s, "Unchanged"), s, len(pairs), _shown(pairs)) for s, pairs in groups if pairs],
        "costs": [(_name(p), [cost_text(c) for c in p.costs]) for p in comparison.pairs if p.costs],
    }


def _shown(pairs: list[Pair]) -> tuple[list[tuple[str, str]], list[tuple[str, list[list[str]]]]]:
    """A table without empty columns: its heads, each with the class of its column, and its rows by task."""
    parts: dict[tuple[int, str], list[tuple[str, ...]]] = defaultdict(list)
    for pair in pairs:
        name, repair, task, dataset, metric, *numbers = row(replace(pair, slot=replace(pair.slot, seed=0)))
        seed = f" s{pair.slot.seed}" if pair.slot.seed else ""
        title = f"{task} on {dataset}" + (f": {metric}" if metric else "")
        parts[task_order(task), title].append((name, repair + seed, *numbers))
    heads = (*HEADERS[:2], *HEADERS[5:])
    kept = [i for i in range(len(heads)) if any(r[i] not in ("", NOTHING) for rows in parts.values() for r in rows)]
    kinds = [(heads[i], "why" if heads[i] == "why" else "n" if i > 1 else "") for i in kept]
    return kinds, [(title, [[r[i] for i in kept] for r in rows]) for (_, title), rows in sorted(parts.items())]


def to_json(comparison: Comparison, fail_on: Iterable[str] = ("regression",)) -> str:
    """Everything, with the verdict and counts first; numbers to nine significant digits."""
    failing = comparison.failing(fail_on)
    document = {
        "failed": bool(failing),
        "fail_on": sorted(fail_on),
        "counts": comparison.counts,
        **asdict(comparison),
    }
    return json.dumps(_rounded(document), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def to_junit(comparison: Comparison, fail_on: Iterable[str] = ("regression",)) -> str:
    """JUnit XML: one suite per task and dataset, one case per cell; only what fails the comparison is a failure."""
    failing = {p.slot for p in comparison.failing(fail_on)}
    root = ET.Element("testsuites", name="vitbench compare")
    ordered = sorted(comparison.pairs, key=lambda p: (p.slot.task, p.slot.dataset, p.slot))
    for (task, dataset), members in groupby(ordered, key=lambda p: (p.slot.task, p.slot.dataset)):
        pairs = list(members)
        suite = ET.SubElement(root, "testsuite", name=xml(f"{task} on {dataset}"))
        for pair in pairs:
            _case(suite, pair, pair.slot in failing)
        _count(suite)
    _count(root)
    ET.indent(root, " ")
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, pair: Pair, fails: bool) -> None:
    slot = pair.slot
    name = f"{slot.backbone} / {slot.repair} s{slot.seed}"
    case = ET.SubElement(suite, "testcase", classname=xml(f"{slot.task}.{slot.dataset}"), name=xml(name))
    case.set("time", f"{pair.seconds or 0:.3f}")
    kind = "costlier" if pair.costs and pair.status != "regressed" and fails else pair.status
    cells = dict(zip(HEADERS, row(pair), strict=True))
    moved = f"{cells['metric']}: {cells['before']} -> {cells['now']} ({cells['Δ']})" if pair.difference else ""
    told = "; ".join(filter(None, [moved, why(pair), *map(cost_text, pair.costs)]))
    numbers = ", ".join(f"{h} {cells[h]}" for h in ("metric", "before", "now", "Δ", "95 %", "q", "matters from"))
    if fails:
        tag = "error" if pair.status == "failed" else "failure"
        ET.SubElement(case, tag, type=kind, message=xml(told or kind)).text = xml(numbers)
    elif pair.status in ("failed", "missing", "not comparable"):
        ET.SubElement(case, "skipped", message=xml(f"{kind}: {told}"))
    elif pair.status != "unchanged":
        ET.SubElement(case, "system-out").text = xml(f"{kind}: {told or numbers}")


def _count(element: ET.Element) -> None:
    cases = element.findall(".//testcase")
    element.set("tests", str(len(cases)))
    for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        element.set(name, str(sum(case.find(tag) is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


FORMATS: Mapping[str, Callable[[Comparison, Iterable[str]], str]] = {
    "text": to_text,
    "md": to_markdown,
    "html": to_html,
    "json": to_json,
    "junit": to_junit,
}
