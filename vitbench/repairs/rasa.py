"""Removal of absolute positions (RASA, in Franca; Venkataramanan et al. 2025, arXiv 2507.14137), by training.

Each round trains a map from tokens to their row and column, and removes the plane it reads; the next is trained on what is
left. All planes together are one linear map of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from vitbench.catalogue.positions import RASA, RasaParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.moments import require_images, valid_cells
from vitbench.repairs.planes import extended, places, planes_that_fit, without
from vitbench.tokens.types import Tokens

ROOM_BYTES = 1 << 30


class Rasa(Repair[RasaParams]):
    """x - B'B x; the rows of B (k c) span the planes of all rounds."""

    card = RASA

    def fit(self, context: FitContext) -> State:
        require_images(context, self.card.name)
        stream = Stream(context, self.params.batch)
        channels = next(iter(stream))[0].shape[1]
        basis = next(iter(stream))[0].new_zeros(0, channels)
        for _ in range(planes_that_fit(self.params.rounds, channels)):
            basis = extended(basis, train_round(stream, basis, self.params))
        return {"basis": basis}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return without(x, state["basis"].to(x))


def train_round(stream: Stream, basis: Tensor, params: RasaParams) -> Tensor:
    """One round: the map (2 c) from tokens without the planes of earlier rounds to row and column, after a sigmoid."""
    weight = basis.new_zeros(2, basis.shape[1]).requires_grad_()
    optimiser = torch.optim.AdamW([weight], lr=params.lr, weight_decay=0.0)
    steps = params.epochs * stream.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for _ in range(params.epochs):
        for x, place in stream:
            # Taking the planes out of the map is the same as taking them out of every token.
            loss = torch.nn.functional.mse_loss((x @ without(weight, basis).T).sigmoid(), place)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return weight.detach()


class Stream:
    """Tokens n c and their places n 2 of `batch` images at a time, whatever the batches they come in.

    Up to ROOM_BYTES of them stay in memory; more are read again in every epoch.
    """

    def __init__(self, context: FitContext, batch: int) -> None:
        self._context, self._batch = context, batch
        self._held: list[tuple[Tensor, Tensor]] | None = []
        self.steps = math.ceil(context.images / batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._held:
            yield from self._held
            return
        read: list[tuple[Tensor, Tensor]] = []
        for x, place in self._read():
            if self._held is not None:
                read.append((x, place))
                if sum(part.nbytes for pair in read for part in pair) > ROOM_BYTES:
                    self._held, read = None, []
            yield x, place
        if self._held is not None:
            self._held = read

    def _read(self) -> Iterator[tuple[Tensor, Tensor]]:
        waiting: list[tuple[Tensor, Tensor]] = []
        for tokens in self._context.tokens():
            x = tokens[self._context.field]
            valid = valid_cells(tokens, x.device)
            counts = valid.sum((1, 2)).tolist()
            per_image = (torch.split(part, counts) for part in (x[valid], places(tokens).to(x.device)))
            waiting += zip(*per_image, strict=True)
            while len(waiting) >= self._batch:
                yield _joined(waiting[: self._batch])
                waiting = waiting[self._batch :]
        if waiting:
            yield _joined(waiting)


def _joined(images: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([x for x, _ in images]), torch.cat([place for _, place in images])
