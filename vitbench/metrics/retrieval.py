"""Retrieval with easy, hard and junk images (Radenovic et al. 2018, arXiv 1803.11285): mAP and precision, medium and hard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import percent
from vitbench.records.rows import Measure

CUTS = (1, 5, 10)
# Which relevances are right, and which are not looked at.
SETUPS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "M": (("easy", "hard"), ("junk",)),
    "H": (("hard",), ("easy", "junk")),
}


def average_precision(positions: npt.NDArray[np.integer]) -> float:
    """Area under precision over recall by trapezoids, from the 0-based ranks of all right images (n,), rising."""
    j = np.arange(len(positions))
    before = np.where(positions > 0, j / np.maximum(positions, 1), 1.0)
    after = (j + 1) / (positions + 1)
    return float(((before + after) / 2).mean())


def precision_at(positions: npt.NDArray[np.integer], cut: int) -> float:
    """Share of right images among the first `cut`; only as far as the last right one, as in the reference."""
    until = min(int(positions.max()) + 1, cut)
    return float((positions < until).sum() / until)


def query_statistics(ranking: Sequence[str], relevance: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Statistics of one query from the database's keys, best first, and the keys that are easy, hard and junk."""
    out = {}
    for name, (right, ignored) in SETUPS.items():
        wanted = {key for kind in right for key in relevance[kind]}
        skipped = {key for kind in ignored for key in relevance[kind]}
        looked_at = [key for key in ranking if key not in skipped]
        positions = np.flatnonzero([key in wanted for key in looked_at])
        known = len(positions) > 0
        out[f"n_{name}"] = float(known)
        out[f"ap_{name}"] = average_precision(positions) if known else 0.0
        for cut in CUTS:
            out[f"p{cut}_{name}"] = precision_at(positions, cut) if known else 0.0
    return out


MEASURES: tuple[Measure, ...] = tuple(
    measure
    for name in SETUPS
    for measure in (
        percent(f"mAP_{name}", f"ap_{name}", f"n_{name}"),
        *(percent(f"mP@{cut}_{name}", f"p{cut}_{name}", f"n_{name}") for cut in CUTS),
    )
)
