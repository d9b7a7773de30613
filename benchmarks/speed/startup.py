"""How long the command line takes to answer without computing anything."""

from __future__ import annotations

from benchmarks.speed.figures import Figure, run_command


def measure() -> list[Figure]:
    figures = []
    for arguments in (
        ["--help"],
        ["list", "backbones"],
        ["list", "repairs"],
        ["show", "knn_segmentation"],
        ["plan", "--all"],
    ):
        seconds = min(run_command(arguments).seconds for _ in range(5))
        target = "0.5" if arguments[0] in ("plan", "show") else "0.4"
        figures.append(Figure(f"vitbench {' '.join(arguments)}", seconds, "s", f"<= {target} s"))
    return figures
