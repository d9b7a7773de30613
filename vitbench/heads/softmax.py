"""Multinomial logistic regression on soft labels, several penalties at once, over blocks of rows that may be read again.

All problems take their L-BFGS steps together, so that one sweep over the rows serves every penalty, and rows need not fit in
memory. Same minimum as scikit-learn's `LogisticRegression(C)`: mean cross-entropy + |W|^2 / (2 C n), intercept free. Steps are
preconditioned by a bound of the Hessian, half the second moments of the features (Boehning 1992): tokens are so correlated
that plain L-BFGS takes hundreds of sweeps where this takes tens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitbench.errors import DataError
from vitbench.heads.ridge import LinearHead

Blocks = Callable[[], Iterable[tuple[Tensor, Tensor, Tensor]]]
_VALUES = 1 << 23  # logits held at once
_HISTORY = 10
_BACKTRACKS = 25
_SUFFICIENT = 1e-4  # Armijo's constant
_NOISE = 1e-7  # relative error of a mean loss summed from float32 logits


@dataclass(frozen=True)
class SoftmaxFit:
    """One head per C, in the order given; `unconverged`: how many stopped at the iteration limit."""

    heads: tuple[LinearHead, ...]
    unconverged: int


@dataclass
class _Problem:
    """One penalty's minimisation; theta and gradients are flat float64 vectors."""

    penalty: float
    theta: Tensor
    inverse: Tensor  # c+1 c+1, of the bound of the Hessian
    loss: float = float("inf")
    gradient: Tensor = field(default_factory=lambda: torch.zeros(0))
    direction: Tensor = field(default_factory=lambda: torch.zeros(0))
    step: float = 1.0
    tries: int = 0
    iterations: int = 0
    pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    done: bool = False

    @property
    def trial(self) -> Tensor:
        return self.theta + self.step * self.direction if len(self.direction) else self.theta

    def take(self, loss: float, gradient: Tensor, tolerance: float) -> None:
        """What the rows say of `trial`: accept it and choose the next direction, or shorten the step."""
        if len(self.direction):
            slope = float(self.gradient @ self.direction)
            if not loss <= self.loss + _SUFFICIENT * self.step * slope + _NOISE * abs(self.loss):
                self.step, self.tries = self.step / 2, self.tries + 1
                self.done = self.tries >= _BACKTRACKS  # float32 cannot tell the points apart any more
                return
            moved, turned = self.step * self.direction, gradient - self.gradient
            if float(moved @ turned) > 1e-10 * float(turned @ turned):
                self.pairs = [*self.pairs[-_HISTORY + 1 :], (moved, turned)]
            self.theta = self.theta + moved
            self.iterations += 1
        self.loss, self.gradient = loss, gradient
        self.done = float(gradient.abs().max()) <= tolerance
        self.direction = -two_loop(gradient, self.pairs, self.inverse)
        self.step, self.tries = 1.0, 0


def two_loop(gradient: Tensor, pairs: Sequence[tuple[Tensor, Tensor]], inverse: Tensor) -> Tensor:
    """The inverse Hessian of L-BFGS applied to a gradient; pairs (step, change of gradient), oldest first.

    `inverse` (r r) is the first guess of it, for each column of the gradient seen as r rows.
    """

    def guessed(v: Tensor) -> Tensor:
        return (inverse @ v.view(len(inverse), -1)).flatten()

    q, alphas = gradient.clone(), []
    for s, y in reversed(pairs):
        alpha = (s @ q) / (s @ y)
        alphas.append(alpha)
        q -= alpha * y
    scale = 1.0
    if pairs:
        s, y = pairs[-1]
        scale = float((s @ y) / (y @ guessed(y)))
    q = scale * guessed(q)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q += s * (alpha - (y @ q) / (s @ y))
    return q


def fit_softmax(
    blocks: Blocks, n_classes: int, grid: Sequence[float], max_iter: int, tolerance: float,
    start: LinearHead | None = None,
) -> SoftmaxFit:  # fmt: skip
    """Heads for every C of the grid. A block: x n c, soft labels n k (each row sums to one), weights n; float32.

    Stops where the largest component of the gradient of the mean loss is below `tolerance`. Classes that carry no weight get
    minus infinity. Raises DataError where fewer than two classes carry weight.
    """
    mass, moments = torch.zeros(n_classes, dtype=torch.float64), torch.zeros(0)
    for x, y, w in blocks():
        mass += (y * w[:, None]).sum(0, dtype=torch.float64).cpu()
        wide = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        moments = (
            moments + (wide * w[:, None]).T @ wide if len(moments) else (wide * w[:, None]).T.double() @ wide.double()
        )
    present = torch.nonzero(mass > 0)[:, 0].to(moments.device)
    if len(present) < 2:
        raise DataError("the train split holds one class only", "give images of at least two classes")
    total, channels = float(moments[-1, -1]), len(moments) - 1
    theta = torch.zeros(channels + 1, len(present), dtype=torch.float64, device=moments.device)
    if start is not None:
        theta = torch.cat([start.weight, start.bias[None]])[:, present].double().nan_to_num(neginf=0.0)
    values, vectors = torch.linalg.eigh(moments.double() / total)
    floor = 1e-7 * float(values.max())
    problems = []
    for penalty in (1.0 / (c * total) for c in grid):
        inverse = (vectors / (values.clamp_min(0) / 2 + penalty + floor)) @ vectors.T
        problems.append(_Problem(penalty, theta.flatten().clone(), inverse))
    while active := [p for p in problems if not p.done and p.iterations < max_iter]:
        for problem, loss, gradient in zip(active, *_evaluate(blocks, active, present, total), strict=True):
            problem.take(loss, gradient, tolerance)
    heads = tuple(_head(p.theta.view(channels + 1, -1), present, n_classes) for p in problems)
    return SoftmaxFit(heads, sum(not p.done for p in problems))


def _evaluate(
    blocks: Blocks, active: Sequence[_Problem], present: Tensor, total: float
) -> tuple[list[float], list[Tensor]]:
    """Penalised mean loss and its gradient at every problem's trial point, from one sweep over the rows."""
    a, k = len(active), len(present)
    points = torch.stack([p.trial.view(-1, k) for p in active])  # a c+1 k
    weight = points[:, :-1].permute(1, 0, 2).flatten(1).float()  # c a*k
    bias = points[:, -1].flatten().float()
    losses = torch.zeros(a, dtype=torch.float64, device=points.device)
    slope = torch.zeros(len(weight) + 1, a * k, dtype=torch.float64, device=points.device)
    rows = max(_VALUES // (a * k), 1)
    for xs, ys, ws in blocks():
        for i in range(0, len(xs), rows):
            x, y, w = xs[i : i + rows], ys[i : i + rows, None, present], ws[i : i + rows]
            log_p = (x @ weight + bias).view(-1, a, k).log_softmax(-1)
            losses -= ((y * log_p).sum(-1) * w[:, None]).sum(0, dtype=torch.float64)
            residual = ((log_p.exp() - y) * w[:, None, None]).flatten(1)
            slope[:-1] += x.T @ residual
            slope[-1] += residual.sum(0)
    gradients = (slope / total).view(-1, a, k).permute(1, 0, 2).clone()
    out = []
    for i, problem in enumerate(active):
        w = points[i, :-1]
        losses[i] = losses[i] / total + 0.5 * problem.penalty * (w * w).sum()
        gradients[i, :-1] += problem.penalty * w
        out.append(float(losses[i]))
    return out, [g.flatten() for g in gradients]


def _head(theta: Tensor, present: Tensor, n_classes: int) -> LinearHead:
    weight = theta.new_zeros(len(theta) - 1, n_classes)
    bias = theta.new_full((n_classes,), -torch.inf)
    weight[:, present], bias[present] = theta[:-1], theta[-1]
    return LinearHead(weight.float(), bias.float())
