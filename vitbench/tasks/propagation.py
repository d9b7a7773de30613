"""Labels carried from frame to frame by token similarity (Jabri et al. 2020; Caron et al. 2021, arXiv 2104.14294).

The reference builds an affinity of all tokens with all tokens of eight frames, and a mask of the neighbourhood by four
nested loops. Here a tile of tokens meets only the frames' tokens within its reach, so memory does not grow with the frame.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.errors import TokensError
from vitbench.tokens.checks import checked
from vitbench.tokens.geometry import Geometry

TILE = 12
ROUNDING = 1e-9  # a position on the border of two pixels belongs to the second


@dataclass(frozen=True)
class Rule:
    """Which tokens a token takes its labels from, and with which weights.

    radius: in patches, 0 for the whole frame. ties: keep all that are equal to the k-th.
    """

    context: int = 7
    radius: int = 12
    window: Literal["square", "circle"] = "square"
    top_k: int = 5
    temperature: float = 0.1
    ties: bool = True


def propagate(query: Tensor, sources: Tensor, labels: Tensor, rule: Rule) -> Tensor:
    """Unit tokens h w c of a frame and s h w c of earlier ones with soft labels s h w m -> soft labels h w m."""
    h, w, _ = query.shape
    if not rule.radius:
        rule = replace(rule, radius=h + w, window="square")
    out = query.new_empty(h, w, labels.shape[-1])
    for top in range(0, h, TILE):
        for left in range(0, w, TILE):
            rows, cols = slice(top, min(top + TILE, h)), slice(left, min(left + TILE, w))
            reach = _reach(rows, h, rule.radius), _reach(cols, w, rule.radius)
            inside = _inside((rows, cols), reach, rule, query.device).repeat(1, len(sources))
            near = sources[:, reach[0], reach[1]].flatten(0, 2)
            similar = query[rows, cols].flatten(0, 1) @ near.T
            weights = _weights(similar.masked_fill_(~inside, -torch.inf), rule)
            mixed = weights @ labels[:, reach[0], reach[1]].flatten(0, 2)
            out[rows, cols] = mixed.reshape(rows.stop - rows.start, cols.stop - cols.start, -1)
    return out


def _reach(part: slice, length: int, radius: int) -> slice:
    return slice(max(part.start - radius, 0), min(part.stop + radius, length))


def _inside(tile: tuple[slice, slice], reach: tuple[slice, slice], rule: Rule, device: torch.device) -> Tensor:
    """q n bool: which of the n places within reach of a tile are in the neighbourhood of each of its q tokens."""
    down, across = (
        (torch.arange(t.start, t.stop, device=device)[:, None] - torch.arange(r.start, r.stop, device=device)).abs()
        for t, r in zip(tile, reach, strict=True)
    )
    dy, dx = down[:, None, :, None], across[None, :, None, :]
    square = rule.window == "square"
    near = torch.maximum(dy, dx) <= rule.radius if square else dy**2 + dx**2 <= rule.radius**2
    return near.flatten(2).flatten(0, 1)


def _weights(similar: Tensor, rule: Rule) -> Tensor:
    """Cosines q n (-inf outside the neighbourhood) -> weights that sum to one over the most similar."""
    top = similar.topk(min(rule.top_k, similar.shape[1]), dim=1)
    if rule.ties:
        kept = similar.masked_fill_(similar < top.values[:, -1:], -torch.inf)
        # Every token is in its own neighbourhood, so a row always has a finite value.
        return torch.softmax(kept / rule.temperature, dim=1)
    weights = torch.softmax(top.values / rule.temperature, dim=1)
    return torch.zeros_like(similar).scatter_(1, top.indices, weights)


class Propagator:
    """One video while it is followed: the first frame and the last few, with their labels."""

    def __init__(self, tokens: Tensor, labels: Tensor, rule: Rule) -> None:
        """tokens h w c (any scale) and soft labels h w m of the first frame. Raises TokensError where the grids differ."""
        self._rule = rule
        unit = _unit(tokens)
        self._first = unit, labels.to(unit.dtype)
        self._same(tokens.shape[:2], labels.shape[:2])
        self._recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=rule.context)

    def step(self, tokens: Tensor) -> Tensor:
        """The soft labels of the next frame: h w m. Raises TokensError for a frame of another grid or width."""
        query = _unit(tokens)
        self._same(self._first[0].shape, query.shape)
        known = [self._first, *self._recent]
        labels = propagate(query, torch.stack([t for t, _ in known]), torch.stack([m for _, m in known]), self._rule)
        self._recent.append((query, labels))
        return labels

    @staticmethod
    def _same(first: torch.Size, other: torch.Size) -> None:
        if first != other:
            raise TokensError(
                f"tokens of the first frame are {tuple(first)}, others {tuple(other)}",
                "frames of a video have one size",
            )


def _unit(tokens: Tensor) -> Tensor:
    return torch.nn.functional.normalize(checked(tokens, "h w c", "tokens of a frame"), dim=-1)


def grid_labels(
    geometry: Geometry, i: int, labels: npt.NDArray[np.integer], pillow: bool = False
) -> npt.NDArray[np.integer]:
    """The label at the centre of every cell of image i (label map of any size -> h w); 0 where a cell shows no image.

    pillow: centres on the border of two labels fall as they do in Pillow's nearest neighbour, not all on the second.
    """
    p, out = geometry.placements[i], []
    for axis in (0, 1):
        ratio = labels.shape[axis] / p.source_hw[axis]
        start, step = p.offset[axis] * ratio, geometry.patch_px * p.scale[axis] * ratio
        centres = _stepped(start, step, geometry.grid_hw[axis]) if pillow else start + step * _halves(geometry, axis)
        out.append(np.floor(centres + (0 if pillow else ROUNDING)).astype(np.int64))
    rows, cols = out[0], out[1][::-1] if p.flipped else out[1]
    inside = ((rows >= 0) & (rows < labels.shape[0]))[:, None] & ((cols >= 0) & (cols < labels.shape[1]))[None, :]
    shown = labels[np.clip(rows, 0, labels.shape[0] - 1)[:, None], np.clip(cols, 0, labels.shape[1] - 1)[None, :]]
    return np.where(inside, shown, 0)


def _halves(geometry: Geometry, axis: int) -> npt.NDArray[np.float64]:
    return np.arange(geometry.grid_hw[axis], dtype=np.float64) + np.float64(0.5)


def _stepped(start: float, step: float, count: int) -> npt.NDArray[np.float64]:
    """Centres of `count` cells, each the sum of the one before and a step: Pillow rounds what it adds up."""
    start, stop = round(start, 9), round(start + count * step, 9)
    step = (stop - start) / count
    return np.asarray(np.cumsum(np.concatenate([[start + step * 0.5], np.full(count - 1, step)])), np.float64)


def stretched(soft: Tensor) -> Tensor:
    """h w m with each channel brought to 0..1 (one that is the same everywhere stays as it is)."""
    low, high = soft.amin((0, 1)), soft.amax((0, 1))
    flat = high <= low
    return (soft - torch.where(flat, 0.0, low)) / torch.where(flat, 1.0, high - low)
