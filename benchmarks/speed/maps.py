"""Repairs that map tokens, against copying the tokens: throughput ratio per repair."""

from __future__ import annotations

import torch

from benchmarks.speed.figures import Figure, interleaved
from vitbench.repairs.compose import build_repair
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import Tokens

IMAGES, GRID, DIM = 32, 24, 192
ELEMENTWISE = ("center", "zscore", "position_mean", "unit", "norm_clip")
NAMES = (*ELEMENTWISE, "remove_high_variance", "random_dims", "remove_top_components", "smooth3", "fill_outliers")


def measure() -> list[Figure]:
    torch.manual_seed(0)
    placement = Placement((192, 192), (192, 192), (192, 192))
    fields = {"patch": torch.randn(IMAGES, GRID, GRID, DIM), "norms": torch.rand(IMAGES, 6, GRID, GRID) + 1}
    fields["norms"][:, :, 0, 0] = 100  # outliers, for the repair that looks for some
    tokens = Tokens(fields, Geometry(8, (GRID, GRID), (placement,) * IMAGES), tuple(map(str, range(IMAGES))))
    figures = []
    for name in NAMES:
        repair = build_repair(name)
        states = {"patch": repair.fit(_Fit(tokens))} if repair.card.needs_fit else {}
        copying, mapping = interleaved(lambda: tokens["patch"].clone(), lambda r=repair, s=states: r.map(tokens, s))
        figures.append(Figure(f"map {name}", copying / mapping, "of copying", ">= 0.5" if name in ELEMENTWISE else ""))
    return figures


class _Fit:
    """A fit context over tokens in memory."""

    field, seed, images = "patch", 0, IMAGES

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def tokens(self):  # type: ignore[no-untyped-def]
        yield self._tokens
