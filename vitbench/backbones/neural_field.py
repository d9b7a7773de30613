"""One image's tokens as a field over the image plus an artefact over the view: y(view, p) ~ F(x of p) + G(p) + h(y).

Stage 1 of DVT (Yang et al. 2024, arXiv 2401.02957). F is a pyramid of grids, sampled bilinearly, under a small MLP: with
the published sizes their hash grid has no collision in two dimensions, so it is such a pyramid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ARTEFACT_START, PYRAMID_START = 0.02, 1e-4
BETAS, EPS, DECAY = (0.9, 0.99), 1e-15, 1e-5
RESIDUAL, SPARSE = 0.1, 0.02  # weights of the residual's two losses
LEAST = 1e-12  # of a product of lengths


@dataclass(frozen=True)
class FieldSettings:
    """Sizes of F, and how it is trained. `warmup`: share of the steps; the rate then falls to a tenth on a cosine."""

    levels: int
    features: int
    coarsest: int
    finest: int
    steps: int
    tokens: int
    rate: float
    warmup: float = 0.1

    @property
    def sides(self) -> list[int]:
        """Nodes per side of the pyramid's grids, in a geometric row."""
        growth = (self.finest / self.coarsest) ** (1 / max(self.levels - 1, 1))
        return [round(self.coarsest * growth**i) for i in range(self.levels)]


@dataclass(frozen=True)
class Bank:
    """Tokens of all views of one image: y n c, and where they are in the image, place n 2 (x y in 0 to 1)."""

    y: Tensor
    place: Tensor  # on the CPU


@dataclass(frozen=True)
class Corners:
    """Bilinear sampling as weighted sums of rows of a table: index and weight n k 4, for k sums per point."""

    index: Tensor
    weight: Tensor

    def sample(self, table: Tensor, chosen: Tensor) -> Tensor:
        """table r c, chosen points m -> m kc."""
        index, weight = self.index[chosen].flatten(0, 1), self.weight[chosen].flatten(0, 1)
        sums = functional.embedding_bag(index, table, per_sample_weights=weight, mode="sum")
        return sums.view(len(chosen), -1)

    def to(self, device: torch.device) -> Corners:
        return Corners(self.index.to(device), self.weight.to(device))


def corners(points: Tensor, sizes: Sequence[tuple[int, int]]) -> Corners:
    """Points n k 2 (x y in nodes of grid k of `sizes` h w, clamped to its outer nodes) -> the four nodes around each.

    The grids' nodes stand row by row, one grid after another. On the CPU.
    """
    wide = torch.tensor([w for _, w in sizes])
    limits = torch.tensor([[w - 1, h - 1] for h, w in sizes])
    starts = torch.tensor([0, *[h * w for h, w in sizes]]).cumsum(0)[:-1]
    points = torch.minimum(points.clamp(min=0), limits)
    low = torch.minimum(points.floor().long(), (limits - 1).clamp(min=0))
    part = points - low
    index, weight = [], []
    for dx, dy in product((0, 1), (0, 1)):
        at = torch.minimum(low + torch.tensor([dx, dy]), limits)
        index.append(starts + at[..., 1] * wide + at[..., 0])
        weight.append((part[..., 0] if dx else 1 - part[..., 0]) * (part[..., 1] if dy else 1 - part[..., 1]))
    return Corners(torch.stack(index, -1).int(), torch.stack(weight, -1))


class Flat:
    """Tensors as views of one, with gradients that are too, so that an optimiser's step is one operation."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.values = torch.cat([t.flatten() for t in tensors])
        self._gradient = torch.zeros_like(self.values)
        sizes = [t.numel() for t in tensors]
        shapes = [t.shape for t in tensors]
        self.views, self._gradients = (
            [part.view(shape) for part, shape in zip(torch.split(whole, sizes), shapes, strict=True)]
            for whole in (self.values, self._gradient)
        )

    def start(self, learns: bool) -> None:
        """Begin a step in which these learn, or do not."""
        self.values.grad = self._gradient.zero_() if learns else None
        for view, gradient in zip(self.views, self._gradients, strict=True):
            view.requires_grad_(learns).grad = gradient if learns else None


class ImageField:
    """F, G and h of one image, with all random numbers from one generator."""

    def __init__(self, bank: Bank, grid_hw: tuple[int, int], settings: FieldSettings, random: torch.Generator) -> None:
        self.settings, self.grid_hw, self.random = settings, grid_hw, random
        width = bank.y.shape[1]
        nodes = sum(side**2 for side in settings.sides)
        pyramid = torch.empty(nodes, settings.features).uniform_(-PYRAMID_START, PYRAMID_START, generator=random)
        scene = self._layers([settings.levels * settings.features, max(width // 2, 1), width])
        # F starts at the image's mean token: a constant may stand in F or in G, and would get into both.
        scene[-1] = bank.y.mean(0)
        artefact = ARTEFACT_START * torch.randn(grid_hw[0] * grid_hw[1], width, generator=random)
        small = max(width // 4, 1)
        parts = [[pyramid, *scene], [artefact], self._layers([width, small, small, width])]
        self.parts = [[tensor.to(bank.y.device) for tensor in part] for part in parts]

    def _layers(self, sizes: Sequence[int]) -> list[Tensor]:
        """Weights and biases of linear maps, by turns."""
        out = []
        for inputs, outputs in pairwise(sizes):
            bound = 1 / math.sqrt(inputs)
            for shape in ((outputs, inputs), (outputs,)):
                out.append(torch.empty(shape).uniform_(-bound, bound, generator=self.random))
        return out

    @property
    def artefact(self) -> Tensor:
        """G, hw c."""
        return self.parts[1][0]

    def field(self, places: Corners, chosen: Tensor) -> Tensor:
        """F at chosen points, n c."""
        pyramid, *layers = self.parts[0]
        return _mlp(layers, places.sample(pyramid, chosen))

    def places(self, points: Tensor) -> Corners:
        """Where points n 2 (x y in 0 to 1 of the image) are in the pyramid."""
        sides = self.settings.sides
        nodes = points.unsqueeze(1) * (torch.tensor(sides) - 1).unsqueeze(-1)
        return corners(nodes, [(side, side) for side in sides]).to(self.artefact.device)

    def at(self, points: Tensor) -> Tensor:
        """F at points n 2 (x y in 0 to 1 of the image), n c; with it what all of G has in common."""
        return self.field(self.places(points), self._all(points)) + self.artefact.mean(0)

    def freed(self, y: Tensor, cells: Tensor) -> Tensor:
        """Tokens n c less G at cells n 2 (x y in its nodes) and h."""
        at = corners(cells.unsqueeze(1), [self.grid_hw]).to(y.device)
        return y - at.sample(self.artefact, self._all(cells)) + self.artefact.mean(0) - self.residual(y)

    def _all(self, points: Tensor) -> Tensor:
        return torch.arange(len(points), device=self.artefact.device)

    def residual(self, y: Tensor) -> Tensor:
        """h of tokens n c."""
        return _mlp(self.parts[2], y)


def _mlp(layers: Sequence[Tensor], x: Tensor) -> Tensor:
    for i in range(0, len(layers) - 2, 2):
        x = functional.linear(x, layers[i], layers[i + 1]).relu()
    return functional.linear(x, layers[-2], layers[-1])


def fit_field(
    bank: Bank, cells: Tensor, grid_hw: tuple[int, int], settings: FieldSettings, random: torch.Generator
) -> ImageField:
    """F, G and h of one image; cells n 2: x y of the bank's tokens in nodes of G, whose size is `grid_hw`."""
    with torch.inference_mode(False), torch.enable_grad():
        bank = Bank(bank.y.clone(), bank.place)
        field = ImageField(bank, grid_hw, settings, random)
        _train(field, bank, corners(cells.unsqueeze(1), [grid_hw]).to(bank.y.device))
    return field


def _train(field: ImageField, bank: Bank, cells: Corners) -> None:
    settings, y_all = field.settings, bank.y
    places = field.places(bank.place)
    parts = [Flat(tensors) for tensors in field.parts]
    field.parts = [part.views for part in parts]
    optimiser = torch.optim.Adam(
        [part.values for part in parts], lr=settings.rate, betas=BETAS, eps=EPS, weight_decay=DECAY, fused=True
    )
    scene, artefact, residual = parts
    for step in range(settings.steps):
        second = step >= settings.steps / 2
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * schedule(step, settings.steps, settings.warmup)
        for part, learns in ((scene, True), (artefact, not second), (residual, second)):
            part.start(learns)
        chosen = torch.randint(len(y_all), (settings.tokens,), generator=field.random).to(y_all.device)
        y = y_all[chosen]
        made = field.field(places, chosen) + cells.sample(field.artefact, chosen)
        if second:
            r = field.residual(y)
            loss = reconstruction(made + r.detach(), y)
            loss = loss + RESIDUAL * functional.mse_loss(r, (y - made).detach()) + SPARSE * r.abs().mean()
        else:
            loss = reconstruction(made, y)
        torch.autograd.backward(loss)
        optimiser.step()
    for part in parts:
        part.start(False)


def reconstruction(made: Tensor, y: Tensor) -> Tensor:
    """mse + (1 - mean cosine) of tokens n c: the loss of both stages of DVT."""
    loss: Tensor = _Reconstruction.apply(made, y)
    return loss


class _Reconstruction(torch.autograd.Function):
    """The loss and its gradient from three products per token, several times faster than operator by operator."""

    @staticmethod
    def forward(ctx: Any, made: Tensor, y: Tensor) -> Tensor:
        both = torch.linalg.vecdot(made, y)
        own, given = torch.linalg.vecdot(made, made), torch.linalg.vecdot(y, y)
        lengths = (own * given).sqrt().clamp_min(LEAST)
        cosine = both / lengths
        ctx.save_for_backward(made, y, own, lengths, cosine)
        loss: Tensor = (own - 2 * both + given).sum() / made.numel() + 1 - cosine.mean()
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        made, y, own, lengths, cosine = ctx.saved_tensors
        n, share = len(made), gradient * 2 / made.numel()
        of_made = share + gradient / n * cosine / own.clamp_min(LEAST)
        of_y = share + gradient / n / lengths
        return made * of_made.unsqueeze(-1) - y * of_y.unsqueeze(-1), None


def schedule(step: int, steps: int, warmup: float, last: float = 0.1) -> float:
    """Share of the rate at a step: linear up over the warm-up, then a cosine down to `last`."""
    up = warmup * steps
    if step < up:
        return (step + 1) / up
    done = (step - up) / max(steps - up, 1)
    return last + (1 - last) * (1 + math.cos(math.pi * done)) / 2
