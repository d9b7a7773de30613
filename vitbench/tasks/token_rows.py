"""Labelled tokens as blocks of standardised rows, for heads that sweep over train many times.

Blocks stay in memory while they fit; else every sweep reads the stream again, so memory does not grow with the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vitbench.errors import DataError
from vitbench.tasks.base import Batch, TokenStream

Block = tuple[Tensor, Tensor, Tensor]
Labels = Callable[[Batch], tuple[Tensor, Tensor]]  # soft labels b h w k and weights b h w
KEPT_BYTES = 1 << 30


@dataclass(frozen=True)
class ChannelScale:
    """Mean and standard deviation per channel of tokens; a constant channel becomes zero."""

    mean: Tensor
    scale: Tensor

    @staticmethod
    def fit(stream: TokenStream, field: str, keys: frozenset[str] | None = None) -> ChannelScale:
        """Over all tokens of a stream, or of the images `keys`. Raises DataError where there is none."""
        n, shift = 0, torch.zeros(0)
        total = square = torch.zeros(0, dtype=torch.float64)
        for batch in stream:
            x = batch.tokens[field]
            if keys is not None:
                x = x[[i for i, key in enumerate(batch.tokens.keys) if key in keys]]
            x = x.flatten(0, -2)
            if not len(x):
                continue
            if not n:
                shift = x.mean(0)
                total = square = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
            d = x - shift
            n += len(d)
            total = total + d.sum(0, dtype=torch.float64)
            square = square + (d * d).sum(0, dtype=torch.float64)
        if not n:
            raise DataError(f"the {stream.split} split is empty", "check the data set and --limit")
        mean = total / n
        scale = (square / n - mean**2).clamp_min(0).sqrt()
        scale = torch.where(scale > 1e-6 * scale.max().clamp_min(1e-30), scale, torch.full_like(scale, torch.inf))
        return ChannelScale((shift + mean).float(), scale.float())

    def __call__(self, x: Tensor) -> Tensor:
        """x: ... c -> ... c."""
        return (x - self.mean) / self.scale


class TokenRows:
    """Rows of one part of a stream: standardised tokens n c, soft labels n k and weights n; rows of weight zero are left out.

    `keys`: the images that belong to the part. Each call reads them in the stream's order.
    """

    def __init__(
        self, stream: TokenStream, field: str, scale: ChannelScale, labels: Labels, keys: frozenset[str]
    ) -> None:
        self._stream, self._field, self._scale, self._labels, self._members = stream, field, scale, labels, keys
        self._kept: list[Block] | None = None

    def __call__(self) -> Iterator[Block]:
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[Block] | None = []
        size = 0
        for block in self._read():
            size += sum(t.nbytes for t in block)
            if size > KEPT_BYTES:
                kept = None
            if kept is not None:
                kept.append(block)
            yield block
        self._kept = kept

    def _read(self) -> Iterator[Block]:
        for batch in self._stream:
            chosen = [i for i, key in enumerate(batch.tokens.keys) if key in self._members]
            if not chosen:
                continue
            labels, weight = self._labels(batch)
            x, y, w = (
                batch.tokens[self._field][chosen].flatten(0, 2),
                labels[chosen].flatten(0, 2),
                weight[chosen].flatten(),
            )
            if bool((w > 0).any()):
                yield self._scale(x[w > 0]), y[w > 0], w[w > 0]
