"""RASA's planes in closed form: ridge regression of a token's place on its channels, round by round. The variant is ours.

One pass over the tokens gives all moments; removing a plane changes them by algebra alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vitbench.catalogue.positions import RASA_RIDGE, RasaRidgeParams
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.moments import moments, require_images, rows
from vitbench.repairs.planes import extended, places, planes_that_fit, without
from vitbench.tokens.types import Tokens


class RasaRidge(Repair[RasaRidgeParams]):
    """x - B'B x; the rows of B (k c) span the ridge solutions of all rounds."""

    card = RASA_RIDGE

    def fit(self, context: FitContext) -> State:
        require_images(context, self.card.name)
        waves = self.params.waves

        def with_targets(tokens: Tokens, name: str) -> Tensor:
            x = rows(tokens, name)
            return torch.cat((x, targets(places(tokens), waves).to(x)), dim=1)

        covariance = moments(context, full=True, read=with_targets).variance
        count = targets(torch.zeros(1, 2), waves).shape[1]
        return {"basis": ridge_planes(covariance, count, self.params).float()}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return without(x, state["basis"].to(x))


def targets(place: Tensor, waves: int) -> Tensor:
    """Rows and columns in 0..1 (n 2) -> centred targets n t: themselves, or cosines of up to `waves` cycles an axis."""
    if waves == 0:
        return place - 0.5
    half = torch.arange(2 * waves + 1, device=place.device)
    y, x = (torch.cos(math.pi * half * place[:, i : i + 1]) for i in (0, 1))
    return torch.einsum("ni,nj->nij", y, x).flatten(1)[:, 1:]  # the constant is no target


def ridge_planes(covariance: Tensor, count: int, params: RasaRidgeParams) -> Tensor:
    """Orthonormal rows k c of all rounds, from the joint covariance of channels and `count` targets (float64).

    A round removes the plane that the solution reads: with more than two targets, the two directions it reads most of them by.
    """
    channels = len(covariance) - count
    x, cross = covariance[:channels, :channels], covariance[:channels, channels:]
    if not float(x.trace()) > 0:
        raise NotApplicableError("the train tokens are all alike, so no direction tells their position")
    penalty = params.ridge * x.trace() / channels * torch.eye(channels, dtype=x.dtype, device=x.device)
    basis = x.new_zeros(0, channels)
    for _ in range(planes_that_fit(params.rounds, channels)):
        left = without(without(x, basis).T, basis)
        solution = torch.linalg.solve(left + penalty, without(cross.T, basis).T).T
        if count > 2:
            solution = torch.linalg.svd(solution, full_matrices=False).Vh[:2]
        basis = extended(basis, solution)
    return basis
