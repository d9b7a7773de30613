"""What the page reads from records beyond their headlines: metrics by block or step, norms per block, provenance."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitbench.errors import RecordError
from vitbench.identity import Slot
from vitbench.metrics.ratios import ratio
from vitbench.records.index import Entry
from vitbench.records.rows import Rows
from vitbench.records.schema import Record
from vitbench.records.store import read, read_rows
from vitbench.reports.cells import base_of, section_of
from vitbench.reports.checkpoints import CHECKPOINT
from vitbench.reports.plots import COLOURS, Curve, Plot, plot

MOST_PLOTS = 24
# miou_block_3, miou@block=3, miou[layer=3], miou_step_1000: a metric with one value per block, layer or step.
INDEXED = re.compile(r"^(?P<name>.+?)[_@\[](?P<axis>block|layer|step)[_=]?(?P<at>\d+)\]?$")
FIELD = re.compile(
    r"^(?P<task>[^\[]+)\[(?P<before>.*?)field=(?P<kind>block|query|key|value)_(?P<at>\d+)(?P<after>.*)\]$"
)
ECDF_POINTS = 60


@dataclass(frozen=True)
class Details:
    """Plots by section, provenance as (name, value), and what could not be read."""

    profiles: tuple[Plot, ...]
    series: tuple[Plot, ...]
    norms: tuple[Plot, ...]
    provenance: tuple[tuple[str, str], ...]
    protocols: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def details(root: Path, entries: Sequence[Entry]) -> Details:
    """Reads one record per task, then all records of tasks that have metrics by block, and rows of token norms."""
    measured = [e for e in entries if e.status == "ok"]
    notes: list[str] = []
    first = {e.slot.task: e for e in reversed(measured)}
    samples = {task: record for task, e in first.items() if (record := _read(root, e, notes)) is not None}
    indexed = {task for task, record in samples.items() if any(INDEXED.match(name) for name in record.metrics)}
    profiled = [r for e in measured if e.slot.task in indexed and (r := _read(root, e, notes)) is not None]
    return Details(
        profiles=(*profiles(profiled), *field_profiles(measured)),
        series=tuple(checkpoint_series(measured)),
        norms=tuple(_norms(root, measured, notes)),
        provenance=tuple(_provenance(samples.values(), measured)),
        protocols=tuple(_protocols(samples, measured)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _read(root: Path, entry: Entry, notes: list[str]) -> Record | None:
    try:
        return read(root / entry.path)
    except RecordError as error:
        notes.append(error.message)
        return None


# -- blocks and steps --------------------------------------------------------------------------------------------------


def profiles(records: Iterable[Record]) -> list[Plot]:
    """Per task, dataset and metric with one value per block (layer, step): a curve per backbone and repair."""
    curves: dict[tuple[str, str, str, str], dict[str, dict[int, Any]]] = defaultdict(lambda: defaultdict(dict))
    units: dict[tuple[str, str, str, str], str] = {}
    for r in records:
        name = r.slot.backbone + ("" if r.slot.repair == "none" else f" {r.slot.repair}")
        for metric, value in r.metrics.items():
            if (m := INDEXED.match(metric)) and value.value is not None:
                key = (r.slot.task, r.slot.dataset, m["name"], m["axis"])
                curves[key][name][int(m["at"])] = value
                units[key] = value.unit
    out: list[Plot] = []
    for key, by_name in curves.items():
        task, dataset, metric, axis = key
        made = [_profile(name, values) for name, values in by_name.items()]
        out += _in_parts(f"{task} on {dataset}", f"{metric}{f', {units[key]}' if units[key] else ''}", made, axis)
    return out[:MOST_PLOTS]


def _profile(name: str, values: dict[int, Any]) -> Curve:
    at = sorted(values)
    ends = [(values[i].ci_low, values[i].ci_high) for i in at]
    whole = all(low is not None and high is not None for low, high in ends)
    low, high = ([pair[k] for pair in ends] if whole else [] for k in (0, 1))
    return Curve(name, [float(i) for i in at], [values[i].value for i in at], low, high)


def checkpoint_series(entries: Iterable[Entry]) -> list[Plot]:
    """Headlines of backbones named NAME@STEP against the step: one plot per task, one curve per backbone and repair."""

    def place(slot: Slot) -> tuple[str, str, int] | None:
        m = CHECKPOINT.match(slot.backbone)
        return (slot.task, m["name"] + m["rest"], int(m["step"])) if m else None

    return _along(entries, place, "step")


def field_profiles(entries: Iterable[Entry]) -> list[Plot]:
    """Headlines of one task on the tokens of several blocks (`TASK[field=block_3]`) against the block."""

    def place(slot: Slot) -> tuple[str, str, int] | None:
        m = FIELD.match(slot.task)
        if m is None:
            return None
        settings = ",".join(part for part in (m["before"].strip(","), m["after"].strip(",")) if part)
        task = m["task"] + (f"[{settings}]" if settings else "") + ("" if m["kind"] == "block" else f" {m['kind']}")
        return task, slot.backbone, int(m["at"])

    return _along(entries, place, "block")


def _along(entries: Iterable[Entry], place: Callable[[Slot], tuple[str, str, int] | None], axis: str) -> list[Plot]:
    """Headlines against what `place` reads from a slot: (title, curve, position), or None for what is on no axis."""
    found: dict[tuple[str, str, str, str], dict[str, dict[int, Entry]]] = defaultdict(lambda: defaultdict(dict))
    for e in entries:
        where = place(e.slot)
        if where is not None and e.value is not None:
            title, curve, at = where
            name = curve + ("" if e.slot.repair == "none" else f" {e.slot.repair}")
            found[title, e.slot.dataset, e.metric, e.unit][name][at] = e
    out: list[Plot] = []
    for (title, dataset, metric, unit), by_name in found.items():
        made = [_profile(name, dict(points)) for name, points in by_name.items() if len(points) > 1]
        out += _in_parts(f"{title} on {dataset}", f"{metric}{f', {unit}' if unit else ''}", made, axis)
    return out[:MOST_PLOTS]


def _in_parts(title: str, note: str, curves: Sequence[Curve], axis: str) -> list[Plot]:
    """As many plots as it takes for every curve to have a colour of its own."""
    parts = [curves[i : i + COLOURS] for i in range(0, len(curves), COLOURS)]
    return [plot(title, part, note, axis, legend=True) for part in parts]


# -- norms -------------------------------------------------------------------------------------------------------------


def _norms(root: Path, entries: Sequence[Entry], notes: list[str]) -> list[Plot]:
    """Of unrepaired token norms: outliers and peaks after each block, and images by their peak, by kind of backbone.

    Norms of other images or other views are plots of their own, and their titles say so where there are several.
    """
    measured: dict[tuple[str, str, str], list[tuple[str, Rows]]] = defaultdict(list)
    for e in entries:
        if e.slot.task.partition("@")[0] != "token_norms" or e.slot.repair != "none":
            continue
        try:
            rows = read_rows(root / e.path)
        except RecordError as error:
            notes.append(error.message)
            continue
        if {"above_mad", "n_tokens", "max_over_median"} <= rows.stats.keys():
            measured[section_of(e.slot.backbone), e.slot.task, e.slot.dataset].append((e.slot.backbone, rows))
    several = len({(task, dataset) for _, task, dataset in measured}) > 1
    out = []
    for (section, task, dataset), members in measured.items():
        for start in range(0, len(members), COLOURS):
            where = f", {task} on {dataset}" if several else ""
            out += norm_plots(section, members[start : start + COLOURS], where)
    return out[:MOST_PLOTS]


def norm_plots(section: str, members: Sequence[tuple[str, Rows]], where: str = "") -> list[Plot]:
    """Three plots of the rows of token norms of a few backbones; those without blocks are in the last one only.

    where: added to the titles.
    """
    outliers, peaks, images = [], [], []
    for backbone, rows in members:
        name = backbone.removeprefix(base_of(backbone)) or backbone
        above, largest = rows.stats["above_mad"].sum(0), rows.stats["max_over_median"]
        blocks = [float(i) for i in range(largest.shape[1])]  # counted as in `block_3`
        if len(blocks) > 1:
            share = 100 * ratio(above, rows.stats["n_tokens"].sum())
            outliers.append(Curve(name, blocks, [float(v) for v in share]))
            peaks.append(Curve(name, blocks, [float(v) for v in largest.mean(0)]))
        x = np.quantile(largest[:, -1], np.linspace(0, 1, min(ECDF_POINTS, len(rows))))
        y = 100 * (1 - np.linspace(0, 1, len(x)))
        images.append(Curve(name, [float(v) for v in x], [float(v) for v in y]))
    kind = {"model": "models", "defect": "planted defects", "control": "controls"}[section] + where
    made = []
    if outliers:
        made.append(
            plot(f"Outlier tokens, {kind}", outliers, "% above median + 10 MAD after each block", "block", legend=True)
        )
        made.append(plot(f"Largest norm, {kind}", peaks, "÷ median, mean over images", "block", log=True, legend=True))
    note = "% of images whose largest norm in the last block is at least x medians"
    return [*made, plot(f"Images by largest norm, {kind}", images, note, "largest ÷ median", log_x=True, legend=True)]


# -- provenance --------------------------------------------------------------------------------------------------------


def _provenance(records: Iterable[Record], entries: Sequence[Entry]) -> list[tuple[str, str]]:
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        p = record.provenance
        for name, version in (p.get("versions") or {}).items():
            counted[str(name)][str(version)] += 1
        for name in ("device", "driver", "platform"):
            if p.get(name):
                counted[name][str(p[name])] += 1
        counted["command"][" ".join(map(str, p.get("command_line") or ()))] += 1
        counted["compute dtype"][str(record.components.get("dtype", ""))] += 1
    commits = Counter(f"{e.commit[:10]}{' (modified)' if e.dirty else ''}" for e in entries if e.commit)
    found = [("commit", ", ".join(f"{name} ({n} cells)" for name, n in commits.most_common(6)))]
    found += [(name, ", ".join(v for v, _ in values.most_common(6) if v)) for name, values in counted.items()]
    return [(name, value) for name, value in found if value]


def _protocols(samples: dict[str, Record], entries: Sequence[Entry]) -> list[tuple[str, ...]]:
    counts = Counter(e.slot.task for e in entries)
    groups: dict[str, int] = defaultdict(int)
    datasets: dict[str, set[str]] = defaultdict(set)
    for e in entries:
        groups[e.slot.task] = max(groups[e.slot.task], e.n)
        datasets[e.slot.task].add(e.slot.dataset)
    lines: list[tuple[str, ...]] = []
    for task, record in sorted(samples.items()):
        version = str((record.components.get("task") or {}).get("version", ""))
        view = str(record.components.get("view", ""))
        lines.append((task, version, ", ".join(sorted(datasets[task])), view, str(groups[task]), str(counts[task])))
    return lines
