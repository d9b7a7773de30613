"""`vitbench nightly`: run a suite, hold it against the accepted baseline and its own history, and say what changed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitbench.cli import options as o
from vitbench.cli.compare import REGRESSION, parse_fail_on
from vitbench.cli.run import carry_out, exit_code, own_records, report

if TYPE_CHECKING:
    from vitbench.engine.options import RunOptions
    from vitbench.jobs import Plan
    from vitbench.records.history import History, Weights
    from vitbench.records.index import Entry, Loaded
    from vitbench.reports.comparison import Comparison
    from vitbench.reports.thresholds import Thresholds

OutFolder = Annotated[Path, typer.Option("--out", "-o", help="Folder for nightly.md, .html, .json and .xml (JUnit).")]


def nightly(
    suite: Annotated[
        str | None,
        typer.Option("--suite", "-s", help="A shipped suite, or a TOML file (default: that of vitbench.toml, or nightly)."),
    ] = None,
    baseline: Annotated[Path, typer.Option(help="Accepted records (`vitbench accept`).")] = Path("results"),
    history: Annotated[Path, typer.Option(help="Folder of past nights; a folder per suite.")] = Path("results/history"),
    out: OutFolder = Path("nightly"),
    fail_on: Annotated[str, typer.Option(help="As for `vitbench compare`.")] = "regression,missing,failed",
    thresholds: Annotated[Path | None, typer.Option(help="A TOML file in place of the shipped thresholds.")] = None,
    records: o.Records = None, cache: o.Cache = None, data_root: o.DataRoot = None, weights: o.Weights = None,
    plugin: o.Plugin = None, device: o.Device = "auto", offline: o.Offline = False, workers: o.Workers = None,
    decoders: o.Decoders = None, cache_budget: o.CacheBudget = None, timeout: o.Timeout = None, limit: o.Limit = None,
) -> None:  # fmt: skip
    """Run a suite, compare it with the baseline, add it to the history, write the report; exit code 4 on a regression."""
    from vitbench.engine.options import parse_bytes
    from vitbench.records.provenance import git_state, utc_now
    from vitbench.reports.comparison_formats import to_json, to_junit, verdict
    from vitbench.reports.nightly import Night, nightly_html, nightly_markdown, nightly_text
    from vitbench.reports.thresholds import load_thresholds
    from vitbench.reports.trends import trends

    wanted, least = parse_fail_on(fail_on), load_thresholds(thresholds)
    suite = suite or str(o.config().get("suite", "nightly"))
    o.make_folder(out)  # not after hours of work
    opts = o.run_options(
        records, cache, data_root, weights, plugin, device=device, offline=offline, workers=workers,
        decoders=decoders, cache_budget=parse_bytes(cache_budget), timeout_s=timeout, command=("vitbench", *sys.argv[1:]),
    )  # fmt: skip
    chosen = o.selected(suite, False, None, None, None, None, None, limit, None, weights=opts.weights)
    plan, summary = carry_out(chosen, opts)
    own = own_records(plan, opts.records)
    name, utc, commit = Path(suite).stem, utc_now(), git_state()[0]
    past = _remember(history / name, own, opts, utc, commit)
    night = Night(utc, name, commit, tuple({p.night for p in past.points}))
    found = _compared(plan, own, opts.records, baseline, least, past.problems)
    series = trends(past.points, least, [cell.slot for cell in plan.cells])
    texts = {
        "nightly.md": nightly_markdown(found, series, wanted, night),
        "nightly.html": nightly_html(found, series, wanted, night),
        "nightly.json": to_json(found, wanted),
        "nightly.xml": to_junit(found, wanted),
    }
    for name, text in texts.items():
        o.write_text(out / name, text)
    print(nightly_text(found, series, wanted, night))
    report(plan, summary, opts.records)
    print(f"{verdict(found, wanted)}; report in {out / 'nightly.html'}")
    raise typer.Exit(REGRESSION if found.failing(wanted) else exit_code(plan, summary, tolerant=True))


def _compared(
    plan: Plan, own: Loaded, records: Path, baseline: Path, thresholds: Thresholds, problems: tuple[str, ...]
) -> Comparison:
    """The night's cells against those of the baseline; a checkpoint that it lacks against the one before it."""
    from vitbench.records.evidence import FileEvidence
    from vitbench.records.index import load
    from vitbench.records.store import records_root
    from vitbench.reports.checkpoints import predecessors
    from vitbench.reports.comparison import compare

    root = records_root(baseline)
    accepted = load(root)
    slots = {cell.slot for cell in plan.cells}
    before = tuple(e for e in accepted.entries if e.slot in slots)
    problems = (*problems, *(p.message for p in (*accepted.problems, *own.problems)))
    if not before:
        problems = (
            *problems,
            f"no accepted record of this suite in {baseline}; vitbench accept --reason WHY makes these the baseline",
        )
    # Paths from the root of the file system: what stands in may lie in either folder.
    known, new = (
        [e._replace(path=str(at.resolve() / e.path)) for e in loaded.entries]
        for at, loaded in ((root, accepted), (records, own))
    )
    stand_ins = predecessors(known, new)
    labels = (str(baseline), "this night")
    return compare(before, own.entries, thresholds, FileEvidence(root, records), labels, problems, stand_ins)


def _remember(folder: Path, own: Loaded, opts: RunOptions, utc: str, commit: str) -> History:
    """Add the night to the history, and the whole of it."""
    from vitbench.records.evidence import components_of
    from vitbench.records.history import Weights, read_history, write_night
    from vitbench.reports.cells import base_of

    files = dict(opts.weights)

    def weights(entry: Entry) -> Weights:
        digest = components_of(opts.records / entry.path).get("backbone", {}).get("digest", "")
        return Weights(str(digest), Path(files.get(base_of(entry.slot.backbone), "")).name)

    if any(e.value is not None for e in own.entries):
        write_night(folder, own.entries, utc, commit, weights)
    return read_history(folder)
