"""`vitbench check repair|task|backbone|dataset NAME`: the contract tests, for one's own plug-in too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vitbench.cli import options as o
from vitbench.errors import UsageError

if TYPE_CHECKING:
    from vitbench.backbones.base import Backbone
    from vitbench.engine.options import RunOptions

Kind = Literal["repair", "task", "backbone", "dataset"]


def check(
    kind: Annotated[Kind, typer.Argument(help="What to check.")],
    name: Annotated[
        str, typer.Argument(help="Its name, parameters in brackets; chains and defects with +; TASK@PROTOCOL.")
    ],
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="What a task is tried on (default: the lab's own data).")
    ] = "",
    plugin: o.Plugin = None,
    data_root: o.DataRoot = None,
    weights: o.Weights = None,
    offline: o.Offline = False,
) -> None:
    """Check that a repair, task, backbone or data set keeps its promises.

    Repairs: batch independence, patch order, zero strength, round trip, ... Tasks: one row per unit, determinism, seeds,
    what is declared suffices, ... Backbones: shapes, batch independence, any size, half precision, ... Data sets: unique
    keys, stable digests, targets in range, splits apart, ... Exit code 1 if one is broken.
    """
    options = o.run_options(None, None, data_root, weights, plugin, offline=offline)
    if dataset and kind != "task":
        raise UsageError("--dataset is for tasks", f"leave it out, or check task instead of {kind}")
    findings = _findings(kind, name, dataset, options)
    told: set[str] = set()
    for finding in findings:
        problem = "the same" if finding.problem in told else finding.problem
        print(f"{'broken' if problem else 'kept':<7} {finding.check}" + f": {problem}" * bool(problem))
        told.update(filter(None, [finding.problem]))
    broken = sum(1 for finding in findings if finding.problem)
    print(f"{kind} {name}: {len(findings) - broken} of {len(findings)} promises kept")
    raise typer.Exit(1 if broken else 0)


def _findings(kind: Kind, name: str, dataset: str, options: RunOptions) -> Sequence[Any]:
    if kind == "dataset":
        from vitbench.data import contract as of_data

        return of_data.run_checks(name, options.data_root)
    if kind == "backbone":
        from vitbench.backbones import contract as of_backbones

        return of_backbones.run_checks(lambda: _loaded(name, options))
    if kind == "task":
        from vitbench.catalogue.resolve import expand_tasks
        from vitbench.tasks import contract as of_tasks

        refs = expand_tasks(name)
        if len(refs) != 1:
            raise UsageError(f"{name!r} are {len(refs)} protocols", "name one: TASK@PROTOCOL")
        return of_tasks.run_checks(refs[0], dataset, options.data_root)
    from vitbench.repairs.compose import build_repair
    from vitbench.repairs.contract import run_checks

    return run_checks(build_repair(name))


def _loaded(name: str, options: RunOptions) -> Backbone:
    from vitbench.backbones.defects import plant_all
    from vitbench.backbones.load import load_backbone

    base, _, defects = name.partition("+")
    backbone = load_backbone(base, weights=dict(options.weights), offline=options.offline)
    return plant_all(backbone, defects) if defects else backbone
