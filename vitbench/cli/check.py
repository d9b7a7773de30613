"""`vitbench check repair NAME`: the contract tests, for one's own plug-in too."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from vitbench.cli import options as o


def check(
    kind: Annotated[Literal["repair"], typer.Argument(help="What to check.")],
    name: Annotated[str, typer.Argument(help="A repair, with parameters in brackets; chains with +.")],
    plugin: o.Plugin = None,
) -> None:
    """Check that a repair keeps its promises: batch independence, patch order, zero strength, round trip, ...

    Exit code 1 if one is broken.
    """
    from vitbench.plugins import load_plugins
    from vitbench.repairs.compose import build_repair
    from vitbench.repairs.contract import run_checks

    load_plugins(plugin or ())
    findings = run_checks(build_repair(name))
    for finding in findings:
        print(
            f"{'broken' if finding.problem else 'kept':<7} {finding.check}"
            + f": {finding.problem}" * bool(finding.problem)
        )
    broken = sum(1 for finding in findings if finding.problem)
    print(f"{kind} {name}: {len(findings) - broken} of {len(findings)} promises kept")
    raise typer.Exit(1 if broken else 0)
