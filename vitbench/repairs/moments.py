"""Statistics of train tokens in one bounded-memory sweep: the rows that count, running moments, thinned samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vitbench.catalogue.suited import too_few_images
from vitbench.errors import NotApplicableError

if TYPE_CHECKING:
    from vitbench.repairs.base import FitContext
    from vitbench.tokens.types import Tokens

MIN_IMAGES = 2
NORMAL_MAD = 1.4826  # MAD x this is the deviation of a normal distribution
ROBUST_Z = 5.0


def valid_cells(tokens: Tokens, device: torch.device) -> Tensor:
    """b h w bool: cells that show some of the image; padding is False."""
    return torch.from_numpy(tokens.geometry.valid()).to(device)


def rows(tokens: Tokens, name: str) -> Tensor:
    """The vectors of a field that count in statistics, n c: all cells but padding, or the prefix tokens themselves."""
    x = tokens[name]
    return x if x.ndim == 2 else x[valid_cells(tokens, x.device)]


def require_images(context: FitContext, repair: str, least: int = MIN_IMAGES) -> None:
    """Raises NotApplicableError where there are too few train images for the statistics of a repair."""
    if context.images < least:
        raise too_few_images(repair, least, context.images)


@dataclass
class Moments:
    """Running count, mean and centred second moments (float64; Chan et al. 1979), of channels or of their pairs.

    mean: c. second: c (sums of squares), or c c (sums of products) where `full`.
    """

    count: int
    mean: Tensor
    second: Tensor

    @property
    def variance(self) -> Tensor:
        """Population variance (c) or covariance (c c)."""
        return self.second / max(self.count, 1)


def moments(context: FitContext, *, full: bool = False, read: Callable[[Tokens, str], Tensor] = rows) -> Moments:
    """Moments of `context.field` over all train tokens; memory is that of one batch and, where `full`, of c x c.

    read: what gives the rows n c of a batch, where they are more than the field's own.
    """
    total: Moments | None = None
    for tokens in context.tokens():
        x = read(tokens, context.field)
        if len(x):
            total = _of_batch(x, full) if total is None else _merged(total, _of_batch(x, full))
    if total is None or total.count < 2:
        raise NotApplicableError(
            f"no train tokens of field {context.field!r} to fit on", "give the data set train images"
        )
    return total


def _of_batch(x: Tensor, full: bool) -> Moments:
    mean = x.mean(0, dtype=torch.float64)
    centred = x - mean.to(x.dtype)
    # Products of centred float32 values; only their running sums need the long mantissa.
    second = (centred.T @ centred).double() if full else centred.double().square().sum(0)
    return Moments(len(x), mean, second)


def _merged(a: Moments, b: Moments) -> Moments:
    count = a.count + b.count
    delta = b.mean - a.mean
    product = torch.outer(delta, delta) if a.second.ndim == 2 else delta.square()
    return Moments(
        count, a.mean + delta * (b.count / count), a.second + b.second + product * (a.count * b.count / count)
    )


class ThinnedSample:
    """Values of a long stream with bounded memory: every value until `room` is full, then every 2nd, 4th, ... of them.

    Deterministic, and independent of how the stream is cut into batches.
    """

    def __init__(self, room: int = 1 << 22) -> None:
        self._room = room
        self._stride = 1
        self._seen = 0
        self._parts: list[Tensor] = []
        self._held = 0

    def add(self, values: Tensor) -> None:
        """values: n."""
        first = -self._seen % self._stride
        self._seen += len(values)
        kept = values[first :: self._stride]
        self._parts.append(kept)
        self._held += len(kept)
        while self._held > self._room:
            self._stride *= 2
            self._parts = [torch.cat(self._parts)[::2]]
            self._held = len(self._parts[0])

    def values(self) -> Tensor:
        """What is kept, sorted."""
        return torch.cat(self._parts).sort().values if self._parts else torch.empty(0)


def median_and_mad(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Median and median absolute deviation of sorted values."""
    median = ordered[(len(ordered) - 1) // 2]
    return median, (ordered - median).abs().median()


def robust_threshold(ordered: Tensor) -> Tensor:
    """Median + 5 x 1.4826 x MAD of sorted values."""
    median, mad = median_and_mad(ordered)
    return median + ROBUST_Z * NORMAL_MAD * mad
