"""Maximal information coefficient of many variables with one other (Reshef et al. 2011, Science 334, 1518-1524).

How well the best small grid over a scatter of two variables tells one from the other: 0 without a relation (as n grows), 1 for
any noiseless function. One axis is cut into parts of equal size; the cuts of the other are the best there are, by dynamic
programming, and both axes take both roles.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_CELLS = 1 << 19  # entries of the tables that are worked on at once on a CPU: they stay in its cache
_CELLS_DEVICE = 1 << 28
_BLOCK = 64  # ends of a part that are worked on at once: later starts are left out block by block


@dataclass(frozen=True)
class Grids:
    """Which grids are tried on n points: those of at most n^alpha cells (and at least 4).

    clumps: the free axis is cut at the ends of at most `clumps` x (its parts) groups of points.
    """

    alpha: float = 0.6
    clumps: int = 15

    def shapes(self, n: int) -> list[tuple[int, int]]:
        """(parts of equal size, most parts of the free axis) of every grid family on n points."""
        cells = max(n**self.alpha, 4.0)
        return [(equal, int(cells / equal)) for equal in range(2, int(cells / 2) + 1)]


def maximal_information(x: Tensor, y: Tensor, grids: Grids) -> Tensor:
    """MIC of each of c variables with one: x (n), y (c n) -> c in [0, 1], float64 on the device of y.

    Points that are equal on an axis are never cut apart. A variable takes O((clumps n^alpha)^2) memory and O(n^(3 alpha)) time.
    """
    n = y.shape[1]
    along, across = _Sorted.of(x.expand_as(y)), _Sorted.of(y)
    best = torch.zeros(len(y), dtype=torch.float64, device=y.device)
    for equal, most in grids.shapes(n):
        scale = torch.arange(2, most + 1, dtype=torch.float64, device=y.device).clamp(max=equal).log()
        for cut, free in ((along, across), (across, along)):
            labels = cut.equal_parts(equal).gather(1, free.order)  # parts of the cut axis, in the order of the free one
            ends = free.clumps(labels, grids.clumps * most)
            information = _best_cuts(labels, ends, equal, most)  # c most-1
            best = torch.maximum(best, (information / scale).amax(1))
    return best.clamp(0, 1)


@dataclass(frozen=True)
class _Sorted:
    """c variables of n points: `order` sorts each, `back` is where each point went; `last` of a run of equal values (c n)."""

    order: Tensor
    back: Tensor
    last: Tensor

    @classmethod
    def of(cls, values: Tensor) -> _Sorted:
        ordered, order = values.sort(dim=1, stable=True)
        last = torch.ones_like(order, dtype=torch.bool)
        last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
        return cls(order, order.argsort(dim=1), last)

    def equal_parts(self, parts: int) -> Tensor:
        """Part of every point (c n) when the axis is cut into `parts` of sizes as equal as ties allow."""
        return _groups(_equal_ends(self.last, parts), self.last.shape[1]).gather(1, self.back)

    def clumps(self, labels: Tensor, most: int) -> Tensor:
        """Where the axis may be cut: ends of runs of one label (ties of several labels stay whole), at most `most` (c k)."""
        run = torch.nn.functional.pad(self.last[:, :-1].cumsum(1), (1, 0))
        low = torch.zeros_like(labels).scatter_reduce(1, run, labels, "amin", include_self=False).gather(1, run)
        high = torch.zeros_like(labels).scatter_reduce(1, run, labels, "amax", include_self=False).gather(1, run)
        pure = torch.where(low == high, low, -1 - run)
        ends = torch.ones_like(self.last)
        ends[:, :-1] = pure[:, 1:] != pure[:, :-1]
        counts = ends.sum(1, keepdim=True)
        fine = _positions(ends, min(most, int(counts.max())))
        return fine if int(counts.max()) <= most else torch.where(counts > most, _equal_ends(ends, most), fine)


def _positions(ends: Tensor, count: int) -> Tensor:
    """Ends of groups as counts of points, each row filled up with n (c n -> c count)."""
    variables, n = ends.shape
    column = torch.where(ends, ends.cumsum(1) - 1, count).clamp(max=count)
    found = torch.full((variables, count + 1), n, device=ends.device)
    return found.scatter(1, column, torch.arange(1, n + 1, device=ends.device).expand(variables, -1))[:, :count]


def _groups(ends: Tensor, n: int) -> Tensor:
    """Which group every place is in (c n), from the ends of the groups (c k)."""
    starts = torch.zeros(len(ends), n + 1, dtype=torch.long, device=ends.device).scatter_(1, ends, 1)
    return starts[:, :n].cumsum(1)


def _equal_ends(last: Tensor, parts: int) -> Tensor:
    """Ends of `parts` parts made of whole groups (c parts), as counts of points; empty parts end at n.

    A part takes groups as long as that brings it nearer to its share of what is left, and at least one.
    """
    n = last.shape[1]
    places = torch.arange(n + 1, device=last.device).expand(len(last), -1)
    there = torch.nn.functional.pad(last, (1, 0), value=True)
    below = torch.where(there, places, 0).cummax(1).values
    above = torch.where(there, places, n).flip(1).cummin(1).values.flip(1)
    start = torch.zeros(len(last), 1, dtype=torch.long, device=last.device)
    ends = []
    for left in range(parts, 0, -1):
        rest = n - start
        target = start + rest // left
        low, high = below.gather(1, target), above.gather(1, (target + 1).clamp(max=n))
        nearer = (low > start) & (2 * rest <= left * (low + high - 2 * start))
        start = torch.where(nearer, low, high)
        ends.append(start)
    return torch.cat(ends, 1)


def _best_cuts(labels: Tensor, ends: Tensor, kinds: int, most: int) -> Tensor:
    """Largest mutual information (nats) of the labels (c n) with 2 .. most parts cut at `ends` (c k): c most-1."""
    size = _CELLS if labels.device.type == "cpu" else _CELLS_DEVICE
    step = max(1, size // (ends.shape[1] + 1) ** 2)
    parts = [
        _best_cuts_of(*pair, kinds, most)
        for pair in zip(torch.split(labels, step), torch.split(ends, step), strict=True)
    ]
    return torch.cat(parts)


def _best_cuts_of(labels: Tensor, ends: Tensor, kinds: int, most: int) -> Tensor:
    n = labels.shape[1]
    table = torch.special.xlogy(*[torch.arange(n + 1, dtype=torch.float64, device=labels.device)] * 2)
    stops = torch.nn.functional.pad(ends, (1, 0)).int()
    there = _label_counts(labels, ends, kinds)
    edges = [*range(0, stops.shape[1], _BLOCK), stops.shape[1]]
    gains = [_gains(stops, there, table, low, high) for low, high in itertools.pairwise(edges)]
    room = [torch.empty_like(gain) for gain in gains]  # new memory in every step would take longer than the step
    found = torch.cat([gain[:, :, 0] for gain in gains], 1)
    out = []
    for _ in range(2, most + 1):
        sums = [
            torch.add(gain, found[:, None, : gain.shape[2]], out=space) for gain, space in zip(gains, room, strict=True)
        ]
        found = torch.cat([total.amax(2) for total in sums], 1)
        out.append(found[:, -1])
    rest = table[n] - table[there[:, :, -1]].sum(1)
    information: Tensor = (torch.stack(out, 1) + rest[:, None]) / n
    return information


def _label_counts(labels: Tensor, ends: Tensor, kinds: int) -> Tensor:
    """How many points of each label stand before each stop, the first of which is 0 (c kinds k+1)."""
    variables, groups = ends.shape
    cell = labels * groups + _groups(ends, labels.shape[1])
    counts = torch.zeros(variables, kinds * groups, dtype=torch.long, device=labels.device)
    counts.scatter_add_(1, cell, torch.ones_like(cell))
    return torch.nn.functional.pad(counts.view(variables, kinds, groups).cumsum(2, dtype=torch.int32), (1, 0))


def _gains(stops: Tensor, there: Tensor, table: Tensor, low: int, high: int) -> Tensor:
    """What a part from stop s to stop t adds, t of [low, high): sum over labels of m log m, less that of all (c t s)."""

    def looked_up(counts: Tensor) -> Tensor:
        between = (counts[:, low:high, None] - counts[:, None, :high]).clamp_(min=0)
        return table.index_select(0, between.view(-1)).view(between.shape)  # several times as fast as take

    gain = looked_up(stops).neg_()
    for counts in there.unbind(1):
        gain += looked_up(counts)
    later = torch.arange(high, device=stops.device) > torch.arange(low, high, device=stops.device)[:, None]
    return gain.masked_fill_(later, -math.inf)
