"""Score a linear head that DINOv2 released, in place of one trained here: does the evaluation give the published value?

    python -m benchmarks.released_heads HEAD.pth BACKBONE TASK@PROTOCOL DATASET [--data-root DIR] [--weights NAME=PATH]
        [--limit N] [--device D]

Prints every measure with its 95 % interval; writes no record, for the head is none of a protocol's.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from vitbench.catalogue.resolve import expand_tasks
from vitbench.choices import Filters, choose
from vitbench.engine.jobs import Workbench
from vitbench.engine.live import LiveSplit
from vitbench.engine.options import RunOptions, parse_weights
from vitbench.engine.workspace import Workspace
from vitbench.errors import UnavailableError, UsageError, VitbenchError
from vitbench.heads.ridge import LinearHead
from vitbench.metrics import measures
from vitbench.plan import make_plan
from vitbench.records.inference import MetricValue, summarise
from vitbench.tasks.base import TaskContext
from vitbench.tasks.live import StreamTask
from vitbench.tasks.released_heads import read_head


def scored(
    head: Path, backbone: str, task: str, dataset: str, options: RunOptions, limit: int | None = None
) -> dict[str, MetricValue]:
    """Measures of a released head. Raises UsageError for a protocol that trains no such head, UnavailableError for data."""
    [ref] = expand_tasks(task)
    loaded = ref.load()
    if not isinstance(loaded, StreamTask):
        raise UsageError(f"{task} trains no head on crops", "linear_segmentation@dinov2, depth@dinov2[_lin4]")
    found = read_head(head, ref.settings.field)
    chosen = choose(None, Filters((backbone,), ("none",), (task,), (dataset,), limit=limit)).choices
    [cell] = make_plan([replace(c, seed=0) for c in chosen[:1]], Workspace(options, fetch=not options.offline)).cells
    if cell.status in ("unavailable", "not_applicable"):
        raise UnavailableError(cell.reason, cell.remedy)
    bench = Workbench(options)
    model = bench.edited(cell.backbone, cell.components["dtype"], cell.edit, cell.edit_fits)
    live = LiveSplit(bench, model, [cell], "val")
    context = TaskContext(bench.dataset(dataset), 0)
    width = len(found.head.weight)
    there = LinearHead(found.head.weight.to(bench.device), found.head.bias.to(bench.device))
    reader = loaded.scorer(replace(found, head=there), context)
    for inputs in loaded.testing(live, context):
        tokens = live.tokens(inputs)
        if tokens[0][ref.settings.field].shape[-1] != width:
            raise UsageError(
                f"{head} reads {width} channels, {backbone} gives others", "name the backbone it was trained on"
            )
        reader.see(tokens, inputs)
    return summarise(reader.result(), measures(ref.card.metric))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.released_heads", description=__doc__.partition("\n")[0])
    parser.add_argument("head", type=Path)
    for name in ("backbone", "task", "dataset"):
        parser.add_argument(name)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--device", default="auto")
    given = parser.parse_args(arguments)
    try:
        options = RunOptions(
            data_root=given.data_root, weights=parse_weights(given.weights), device=given.device, workers=0, decoders=0
        )
        found = scored(given.head, given.backbone, given.task, given.dataset, options, given.limit)
    except VitbenchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    rows = [(name, m.value, m.ci_low, m.ci_high, m.unit) for name, m in found.items()]
    sys.stdout.write(tabulate(rows, headers=("measure", "value", "low", "high", "unit"), floatfmt=".3f") + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
