"""Object boxes and carried masks without training: LOST, TokenCut and label propagation against what they cannot do without."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import eigh
from torch import Tensor

from benchmarks.speed.figures import Figure, interleaved
from vitbench.tasks.lost import lost_boxes
from vitbench.tasks.propagation import Rule, propagate
from vitbench.tasks.tokencut import affinity, second_eigenvector

GRID, DIM = 32, 384
VIDEO = (30, 52)  # 480 x 832 pixels at patch 16
FRAMES = 8


def measure() -> list[Figure]:
    torch.manual_seed(0)
    return [*_boxes(), *_videos()]


def _boxes() -> list[Figure]:
    keys = torch.randn(4, GRID, GRID, DIM)
    flat = keys.flatten(1, 2)
    gram, lost = interleaved(lambda: flat @ flat.mT, lambda: lost_boxes(keys))
    groups = torch.randn(6, DIM)
    tokens = groups[torch.randint(0, 6, (GRID**2,))] + 2 * torch.randn(GRID**2, DIM)
    weights = affinity(tokens, 0.2)
    degree = np.diag(weights.sum(1))
    dense, ours = interleaved(
        lambda: eigh(degree - weights, degree, subset_by_index=[1, 2]), lambda: second_eigenvector(weights), times=3
    )
    return [
        Figure("LOST, 32x32 grids", gram / lost, "of the speed of its Gram products", ">= 0.6"),
        Figure("TokenCut, 32x32 grids", dense / ours, "x dense eigh of two vectors", ">= 5"),
    ]


def _videos() -> list[Figure]:
    def video(h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
        frames = torch.nn.functional.normalize(torch.randn(FRAMES + 1, h, w, DIM), dim=-1)
        return frames[0], frames[1:], torch.rand(FRAMES, h, w, 3)

    small, large = video(*VIDEO), video(2 * VIDEO[0], 2 * VIDEO[1])
    everything, window = interleaved(lambda: _all_pairs(*small), lambda: propagate(*small, Rule()), times=3)
    once, fourfold = interleaved(lambda: propagate(*small, Rule()), lambda: propagate(*large, Rule()), times=3)
    return [
        Figure(
            "a frame from 8, 30x52 tokens, 25x25 window", everything / window, "x all pairs without a window", "> 1"
        ),
        Figure("the same at 60x104 tokens", fourfold / once, "x the time for 4 x the tokens", "< 6"),
    ]


def _all_pairs(query: Tensor, sources: Tensor, labels: Tensor) -> Tensor:
    """As the reference computes it, less its window: every token of the frame with every token of the eight."""
    affinity_ = torch.exp(sources.flatten(0, 2) @ query.flatten(0, 1).T / 0.1)
    affinity_[affinity_ < affinity_.topk(5, dim=0).values[-1]] = 0
    return (labels.flatten(0, 2).T @ (affinity_ / affinity_.sum(0))).T
