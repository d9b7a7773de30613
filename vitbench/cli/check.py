"""`vitbench check repair|dataset NAME`: the contract tests, for one's own plug-in too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vitbench.cli import options as o

Kind = Literal["repair", "dataset"]


def check(
    kind: Annotated[Kind, typer.Argument(help="What to check.")],
    name: Annotated[str, typer.Argument(help="A repair, with parameters in brackets, or a data set; chains with +.")],
    plugin: o.Plugin = None,
    data_root: o.DataRoot = None,
) -> None:
    """Check that a repair or a data set keeps its promises.

    Repairs: batch independence, patch order, zero strength, round trip, ... Data sets: unique keys, stable digests, targets
    in range, splits apart, ... Exit code 1 if one is broken.
    """
    root = o.run_options(None, None, data_root, None, plugin).data_root
    findings = _findings(kind, name, root)
    told: set[str] = set()
    for finding in findings:
        problem = "the same" if finding.problem in told else finding.problem
        print(f"{'broken' if problem else 'kept':<7} {finding.check}" + f": {problem}" * bool(problem))
        told.update(filter(None, [finding.problem]))
    broken = sum(1 for finding in findings if finding.problem)
    print(f"{kind} {name}: {len(findings) - broken} of {len(findings)} promises kept")
    raise typer.Exit(1 if broken else 0)


def _findings(kind: Kind, name: str, root: Path | None) -> list[Any]:
    if kind == "dataset":
        from vitbench.data import contract

        return contract.run_checks(name, root)
    from vitbench.repairs.compose import build_repair
    from vitbench.repairs.contract import run_checks

    return list(run_checks(build_repair(name)))
