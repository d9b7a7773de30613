"""`vitbench plan`: what would run, what is there already, what cannot run and why."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from vitbench.cli import options as o


def plan(
    suite: o.Suite = None, all_: o.All = False, backbones: o.Backbones = None, repairs: o.Repairs = None,
    tasks: o.Tasks = None, datasets: o.Datasets = None, seeds: o.Seeds = None, limit: o.Limit = None,
    subset: o.Subset = None, skip_corrupt: o.SkipCorrupt = False, draft: o.Draft = False,
    dtype: o.Dtype = None, records: o.Records = None, cache: o.Cache = None, data_root: o.DataRoot = None,
    weights: o.Weights = None, plugin: o.Plugin = None, device: o.Device = "auto", offline: o.Offline = False,
    workers: o.Workers = None, decoders: o.Decoders = None, cache_budget: o.CacheBudget = None, timeout: o.Timeout = None,
    cells: Annotated[bool, typer.Option("--cells", help="List every cell.")] = False,
) -> None:  # fmt: skip
    """Show passes, fits and cells without running anything; takes whatever `run` takes."""
    from vitbench.cli.run import missing
    from vitbench.engine.options import parse_bytes
    from vitbench.engine.workspace import Workspace
    from vitbench.plan import make_plan

    opts = o.run_options(
        records, cache, data_root, weights, plugin, device=device, offline=offline, workers=workers, decoders=decoders,
        cache_budget=parse_bytes(cache_budget), timeout_s=timeout,
    )  # fmt: skip
    chosen = o.selected(
        suite, all_, backbones, repairs, tasks, datasets, seeds, limit, dtype, subset, skip_corrupt, draft,
        opts.weights,
    )  # fmt: skip
    made = make_plan(chosen.choices, Workspace(opts), opts.cache_budget)
    counts = Counter(str(c.status) for c in made.cells)
    names = {"todo": "to do", "cached": "cached", "unavailable": "unavailable", "not_applicable": "not applicable"}
    print(f"{len(made.cells)} cells: " + ", ".join(f"{counts[s]} {names[s]}" for s in names if counts[s]))
    print(
        f"{len(made.passes)} passes, {made.forwards} forwards, {made.bytes / 1e6:.0f} MB of tokens; {len(made.fits)} repair fits"
    )
    for p in made.passes:
        fields = ", ".join(p.fields)
        edit = f" edited by {p.edit}" if p.edit else ""
        print(
            f"  {p.backbone}{edit}: {p.split.dataset}/{p.split.split}, {p.split.images} images, view {p.view}, {p.dtype}: {fields}"
        )
    images = {(p.backbone, p.edit, p.split.dataset, p.split.split): p.split.images for p in made.passes}
    if made.passes:
        stored = made.forwards - made.streamed
        print(f"forwards per image: {stored / sum(images.values()):.2f} (per backbone and split)")
    if made.streamed:
        streams = Counter(c.stream for c in made.with_status("todo") if c.stream)
        print(
            f"streamed: {made.streamed} forwards on images augmented anew, which are not stored: "
            f"{sum(streams.values())} cells on {len(streams)} streams"
        )
    refused = Counter(missing(c) for c in made.with_status("unavailable", "not_applicable"))
    for line, count in sorted(refused.items()):
        print(f"  {line}" + (f" ({count} cells)" if count > 1 else ""))
    if cells:
        for c in made.cells:
            print(
                f"  {c.status:<14} {c.slot.backbone} / {c.slot.repair} / {c.slot.task} / {c.slot.dataset}-s{c.slot.seed}"
            )
