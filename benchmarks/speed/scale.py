"""Does it stay interactive: planning 60,000 cells, and a leaderboard of 1,000 records."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.speed.figures import Figure, run_command
from vitbench.choices import Filters, choose
from vitbench.engine.options import RunOptions
from vitbench.engine.workspace import Workspace
from vitbench.identity import digest
from vitbench.plan import make_plan
from vitbench.records.store import find, write


def measure() -> list[Figure]:
    return [*_planning(), *_tabulating()]


def _planning() -> list[Figure]:
    choices = choose("lab", Filters()).choices
    many = [replace(c, seed=seed) for seed in range(-(-60_000 // len(choices))) for c in choices][:60_000]
    with tempfile.TemporaryDirectory() as folder:
        world = Workspace(RunOptions(records=Path(folder) / "runs", cache=Path(folder) / "cache"))
        started = time.perf_counter()
        made = make_plan(many, world)
        seconds = time.perf_counter() - started
    return [Figure(f"planning {len(made.cells)} cells", seconds, "s", "interactive")]


def _tabulating() -> list[Figure]:
    """1,000 records: those of a few lab cells, copied under other seeds."""
    with tempfile.TemporaryDirectory() as folder:
        base = ["--records", f"{folder}/runs", "--cache", f"{folder}/cache"]
        few = [
            "-b",
            "patch_colour,position_only",
            "-r",
            "none,zscore,center,unit",
            "-t",
            "knn_segmentation,depth",
            "-d",
            "scenes",
        ]
        run_command(["run", *few, "--limit", "20", *base])
        choices = choose(None, Filters.parse(few[1], few[3], few[5], few[7], limit=20)).choices
        world = Workspace(RunOptions(records=Path(folder) / "runs", cache=Path(folder) / "cache"))
        originals = [find(Path(folder) / "runs", c.slot, c.identity) for c in make_plan(choices, world).cells]
        target = Path(folder) / "many"
        for n in range(1000):
            record = originals[n % len(originals)]
            if record is None:
                raise SystemExit("the small run left no records")
            slot = replace(record.slot, seed=n // len(originals))
            write(target, record.model_copy(update={"slot": slot, "identity": digest([record.identity, n])}))
        cold = run_command(["leaderboard", "--records", str(target)])
        warm = min(run_command(["leaderboard", "--records", str(target)]).seconds for _ in range(3))
    return [
        Figure("leaderboard of 1,000 records, first time", cold.seconds, "s", ""),
        Figure("leaderboard of 1,000 records", warm, "s", "<= 1.5 s"),
    ]
