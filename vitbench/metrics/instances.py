"""Finding the same object again: top-1, top-5 and mean reciprocal rank of the one right answer, near and far apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitbench.metrics.ratios import percent
from vitbench.records.rows import Measure


def query_statistics(similarities: npt.NDArray[np.floating], right: int, far: bool) -> dict[str, float]:
    """Statistics of one query from its similarities to a gallery (n,), of which entry `right` is the same object.

    Of equals the right one ranks last, so that features that are the same everywhere find nothing. far: in the later half
    of its video (or of the strengths of a change).
    """
    rank = int((similarities >= similarities[right]).sum())  # the right one counts itself
    hit = float(rank == 1)
    return {
        "n": 1.0,
        "hit": hit,
        "hit5": float(rank <= 5),
        "reciprocal": 1.0 / rank,
        "n_gallery": float(len(similarities)),
        "chance": 1.0 / len(similarities),
        "n_near": float(not far),
        "hit_near": hit * (not far),
        "n_far": float(far),
        "hit_far": hit * far,
    }


MEASURES: tuple[Measure, ...] = (
    percent("top1", "hit", "n"),
    percent("top5", "hit5", "n"),
    percent("MRR", "reciprocal", "n"),
    percent("top1_near", "hit_near", "n_near"),
    percent("top1_far", "hit_far", "n_far"),
    percent("top1_chance", "chance", "n"),
)
