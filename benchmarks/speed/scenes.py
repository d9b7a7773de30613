"""How fast the lab's scenes are drawn, on one core."""

from __future__ import annotations

from benchmarks.speed.figures import Figure, best_of
from vitbench.data.scenes import render


def measure() -> list[Figure]:
    figures = []
    for size, target in ((96, ""), (192, ">= 90")):
        seconds = best_of(lambda size=size: [render(1, i, size) for i in range(60)])
        figures.append(Figure(f"scenes at {size} px", 60 / seconds, "per s and core", target))
    return figures
