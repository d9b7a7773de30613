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


class Rasa(Repair[RasaParams]):
    """x - B'B x; the rows of B (k c) span the planes of all rounds."""

    card = RASA

    def fit(self, context: FitContext) -> State:
        require_images(context, self.card.name)
        first = next(_batches(context, 1))[0]
        basis = first.new_zeros(0, first.shape[1])
        for _ in range(planes_that_fit(self.params.rounds, first.shape[1])):
            basis = extended(basis, train_round(context, basis, self.params))
        return {"basis": basis}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return without(x, state["basis"].to(x))


def train_round(context: FitContext, basis: Tensor, params: RasaParams) -> Tensor:
    """One round: the map (2 c) from tokens without the planes of earlier rounds to row and column, after a sigmoid."""
    weight = basis.new_zeros(2, basis.shape[1]).requires_grad_()
    optimiser = torch.optim.AdamW([weight], lr=params.lr, weight_decay=0.0)
    steps = params.epochs * math.ceil(context.images / params.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    for _ in range(params.epochs):
        for x, place in _batches(context, params.batch):
            # Taking the planes out of the map is the same as taking them out of every token.
            loss = torch.nn.functional.mse_loss((x @ without(weight, basis).T).sigmoid(), place)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return weight.detach()


def _batches(context: FitContext, images: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens n c and their places n 2, of a number of images at a time whatever the batches of the stream."""
    held: list[tuple[Tensor, Tensor]] = []
    for tokens in context.tokens():
        x = tokens[context.field]
        counts = valid_cells(tokens, x.device).sum((1, 2)).tolist()
        parts = x[valid_cells(tokens, x.device)].split(counts), places(tokens).to(x.device).split(counts)
        for image in zip(*parts, strict=True):
            held.append(image)
            if len(held) == images:
                yield _joined(held)
                held = []
    if held:
        yield _joined(held)


def _joined(images: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([x for x, _ in images]), torch.cat([place for _, place in images])
