"""`vitbench run`: carry out a plan, show progress, end with the leaderboard."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vitbench.cli import options as o

if TYPE_CHECKING:
    from vitbench.choices import Selected
    from vitbench.engine.local import Summary
    from vitbench.engine.options import RunOptions
    from vitbench.jobs import CellJob, Plan
    from vitbench.records.index import Loaded


def run(
    suite: o.Suite = None, all_: o.All = False, backbones: o.Backbones = None, repairs: o.Repairs = None,
    tasks: o.Tasks = None, datasets: o.Datasets = None, seeds: o.Seeds = None, limit: o.Limit = None,
    subset: o.Subset = None, skip_corrupt: o.SkipCorrupt = False, draft: o.Draft = False,
    dtype: o.Dtype = None, records: o.Records = None, cache: o.Cache = None, data_root: o.DataRoot = None,
    weights: o.Weights = None, plugin: o.Plugin = None, device: o.Device = "auto", offline: o.Offline = False,
    workers: o.Workers = None, decoders: o.Decoders = None, cache_budget: o.CacheBudget = None, timeout: o.Timeout = None,
) -> None:  # fmt: skip
    """Run what is missing of a selection, and print its leaderboard."""
    from vitbench.engine.options import parse_bytes

    opts = o.run_options(
        records, cache, data_root, weights, plugin, device=device, offline=offline, workers=workers,
        decoders=decoders, cache_budget=parse_bytes(cache_budget), timeout_s=timeout, command=("vitbench", *sys.argv[1:]),
    )  # fmt: skip
    chosen = o.selected(
        suite, all_, backbones, repairs, tasks, datasets, seeds, limit, dtype, subset, skip_corrupt, draft,
        opts.weights,
    )  # fmt: skip
    plan, summary = carry_out(chosen, opts)
    _leaderboard(plan, opts.records)
    report(plan, summary, opts.records)
    raise typer.Exit(exit_code(plan, summary, tolerant=all_))


def carry_out(chosen: Selected, opts: RunOptions) -> tuple[Plan, Summary]:
    """Plan a selection and run what is missing of it, with progress."""
    from vitbench.cli.progress import Progress
    from vitbench.engine.local import run as run_plan
    from vitbench.engine.workspace import Workspace
    from vitbench.plan import make_plan

    plan = make_plan(chosen.choices, Workspace(opts, fetch=True), opts.cache_budget)
    with Progress(plan) as progress:
        summary = run_plan(plan, opts, progress)
    return plan, summary


def own_records(plan: Plan, records: Path) -> Loaded:
    """The records of a plan's own cells, as far as there are any."""
    from vitbench.records.index import load

    wanted = {cell.identity for cell in plan.cells}
    loaded = load(records)
    return replace(loaded, entries=tuple(e for e in loaded.entries if e.identity in wanted))


def exit_code(plan: Plan, summary: Summary, tolerant: bool) -> int:
    """0 all planned cells ok, 1 some failed (or unavailable, unless `--all`), 3 nothing measured."""
    failed = sum(summary.count(plan, s) for s in ("failed", "oom", "timeout"))
    absent = len(plan.with_status("unavailable")) + summary.count(plan, "unavailable")
    measured = len(plan.with_status("cached")) + summary.count(plan, "ok")
    if failed:
        return 1
    if not measured:
        return 3
    return 1 if absent and not tolerant else 0


def _leaderboard(plan: Plan, records: Path) -> None:
    """The leaderboard of the plan's own cells: whole tables for a few tasks, the overview for many."""
    from vitbench.reports.formats import to_text
    from vitbench.reports.leaderboard import build

    own = own_records(plan, records)
    if any(e.status == "ok" for e in own.entries):
        few = len({(c.slot.task, c.slot.dataset) for c in plan.cells}) <= 2
        print(to_text(build(own), tables=few), end="")
        if not few:
            print(f"\nall tables: vitbench leaderboard --records {records}")


def report(plan: Plan, summary: Summary, records: Path) -> None:
    """What has no number and why, then the counts."""
    from vitbench.records.store import record_path

    bad = [c for c in plan.cells if c.id in summary.outcomes and summary.outcomes[c.id].status != "ok"]
    for cell in bad[:20]:
        outcome = summary.outcomes[cell.id]
        print(f"{outcome.status}: {describe(cell)}: {outcome.message}", file=sys.stderr)
    if len(bad) > 20:
        print(f"... and {len(bad) - 20} more without a number", file=sys.stderr)
    if traced := next((c for c in bad if summary.outcomes[c.id].traceback), None):
        where = record_path(records, traced.slot, traced.identity)
        print(f"tracebacks are in the records, under `error`: {where}", file=sys.stderr)
    for line in sorted({missing(c) for c in plan.with_status("unavailable")}):
        print(line, file=sys.stderr)
    counts = {
        "ok": summary.count(plan, "ok"), "cached": len(plan.with_status("cached")),
        "failed": sum(summary.count(plan, s) for s in ("failed", "oom", "timeout")),
        "unavailable": len(plan.with_status("unavailable")) + summary.count(plan, "unavailable"),
        "not applicable": len(plan.with_status("not_applicable")) + summary.count(plan, "not_applicable"),
    }  # fmt: skip
    text = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    print(f"{len(plan.cells)} cells: {text}; {summary.forwards} forwards, {summary.seconds:.0f} s")


def describe(cell: CellJob) -> str:
    """`backbone / repair / task / dataset` of a cell."""
    slot = cell.slot
    return f"{slot.backbone} / {slot.repair} / {slot.task} / {slot.dataset}"


def missing(cell: CellJob) -> str:
    """Why a cell cannot run, with the remedy; the same words for all cells of one cause."""
    if cell.status == "not_applicable":
        return f"not applicable: {cell.slot.repair}: {cell.reason}"
    remedy = f" - {cell.remedy}" if cell.remedy else ""
    return f"unavailable: {cell.slot.backbone} on {cell.slot.dataset}: {cell.reason}{remedy}"
