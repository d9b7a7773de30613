"""Many linear heads trained on one stream of tokens: batch norm (or none) and a 1x1 convolution each, by AdamW.

Heads differ in learning rate and weight decay. Their batch statistics are the same, so they are taken once; the loss is taken
head by head, so that memory does not grow with their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vitbench.heads.ridge import LinearHead

_MOMENTUM, _EPSILON = 0.1, 1e-5  # of the running statistics, and of the variance
_WARM_RATIO = 1e-6  # of the learning rate in the first step


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over a share of the iterations, and a decay to `final` of the rate.

    `poly` (linear) and `cosine` decay from the first iteration on and multiply with the warm-up, as mmcv does; `one_cycle`
    starts its cosine where the warm-up ends. `beta1`: (high, low) where the first Adam moment falls while the rate rises and
    rises while it falls.
    """

    kind: Literal["poly", "cosine", "one_cycle"]
    iterations: int
    warmup: float
    final: float = 0.0
    beta1: tuple[float, float] | None = None

    def factor(self, i: int) -> float:
        """What the learning rate is multiplied by in iteration i (0-based)."""
        warm = round(self.warmup * self.iterations)
        ramp = 1 - (1 - i / warm) * (1 - _WARM_RATIO) if i < warm else 1.0
        if self.kind == "one_cycle":
            return ramp if i < warm else self.final + (1 - self.final) * self._falling(i, warm)
        left = 1 - i / self.iterations if self.kind == "poly" else self._falling(i, 0)
        return ramp * (self.final + (1 - self.final) * left)

    def momentum(self, i: int) -> float | None:
        """The first Adam moment in iteration i; None where it stays as it is."""
        if self.beta1 is None:
            return None
        warm = round(self.warmup * self.iterations)
        high, low = self.beta1
        share = i / warm if i < warm else self._falling(i, warm)
        return high - (high - low) * share

    def _falling(self, i: int, warm: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * (i - warm) / max(self.iterations - warm, 1)))


@dataclass(frozen=True)
class Recipe:
    """One head's learning rate and weight decay."""

    learning_rate: float
    weight_decay: float


class HeadBank:
    """Heads c -> k, one per recipe. `norm`: batch norm before the convolution; `dropout`: share of channels dropped per image."""

    def __init__(
        self, channels: int, outputs: int, recipes: Sequence[Recipe], schedule: Schedule, *, norm: bool, seed: int,
        device: torch.device, betas: tuple[float, float] = (0.9, 0.999), dropout: float = 0.0, clip: float | None = None,
    ) -> None:  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        start = (0.01 * torch.randn(outputs, channels, generator=generator)).to(device)
        self._norm, self._dropout, self._clip, self._seed, self._schedule = norm, dropout, clip, seed, schedule
        self._recipes = tuple(recipes)
        self._running = torch.zeros(channels, device=device), torch.ones(channels, device=device)
        self._params: list[list[Tensor]] = []
        for _ in recipes:  # every head starts from the same weights, so that recipes alone make the difference
            parts = [start.clone(), torch.zeros(outputs, device=device)]
            if norm:
                parts += [torch.ones(channels, device=device), torch.zeros(channels, device=device)]
            self._params.append([p.requires_grad_() for p in parts])
        groups = [
            {"params": p, "lr": r.learning_rate, "weight_decay": r.weight_decay}
            for p, r in zip(self._params, recipes, strict=True)
        ]
        self._optimiser = torch.optim.AdamW(groups, betas=betas)

    def __len__(self) -> int:
        return len(self._params)

    def step(self, x: Tensor, iteration: int, loss: Callable[[Tensor], Tensor]) -> list[float]:
        """One step of every head: tokens b h w c, `loss` of logits b k h w. Returns the losses."""
        # Tokens of a frozen forward are inference tensors, which autograd refuses to save.
        x = self._normalised(self._dropped(x.clone() if x.is_inference() else x, iteration))
        factor, beta1 = self._schedule.factor(iteration), self._schedule.momentum(iteration)
        losses = []
        for group, params, recipe in zip(self._optimiser.param_groups, self._params, self._recipes, strict=True):
            group["lr"] = recipe.learning_rate * factor
            if beta1 is not None:
                group["betas"] = (beta1, group["betas"][1])
            value = loss(self._logits(x, params))
            self._set_gradients(params, value)
            losses.append(float(value.detach()))
        self._optimiser.step()
        return losses

    def _set_gradients(self, params: list[Tensor], value: Tensor) -> None:
        for p, gradient in zip(params, torch.autograd.grad(value, params), strict=True):
            p.grad = gradient
        if self._clip is not None:
            torch.nn.utils.clip_grad_norm_(params, self._clip)

    def _dropped(self, x: Tensor, iteration: int) -> Tensor:
        if not self._dropout:
            return x
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + iteration)
        kept = torch.rand(len(x), 1, 1, x.shape[-1], generator=generator) >= self._dropout
        return x * (kept.to(x.device) / (1 - self._dropout))

    def _normalised(self, x: Tensor) -> Tensor:
        """Batch statistics over images and cells; the running ones follow."""
        if not self._norm:
            return x
        flat = x.flatten(0, 2)
        variance, mean = torch.var_mean(flat, 0, correction=0)
        unbiased = variance * len(flat) / max(len(flat) - 1, 1)
        self._running = tuple(  # type: ignore[assignment]
            (1 - _MOMENTUM) * old + _MOMENTUM * new for old, new in zip(self._running, (mean, unbiased), strict=True)
        )
        return (x - mean) * torch.rsqrt(variance + _EPSILON)

    def _logits(self, x: Tensor, params: list[Tensor]) -> Tensor:
        weight, bias = params[0], params[1]
        if self._norm:  # the affine part of the norm and the convolution are one linear map
            weight, bias = weight * params[2], bias + weight @ params[3]
        return torch.nn.functional.linear(x, weight, bias).permute(0, 3, 1, 2)

    def heads(self) -> tuple[LinearHead, ...]:
        """The heads as they are used at test time: running statistics folded into weight and bias."""
        mean, variance = self._running
        out = []
        with torch.no_grad():
            for params in self._params:
                weight, bias = params[0], params[1]
                if self._norm:
                    weight, bias = weight * params[2], bias + weight @ params[3]
                    weight = weight * torch.rsqrt(variance + _EPSILON)
                    bias = bias - weight @ mean
                out.append(LinearHead(weight.T.contiguous(), bias.clone()))
        return tuple(out)

    def state(self) -> dict[str, Tensor]:
        """Everything that training goes on from, as tensors."""
        out = {"mean": self._running[0], "variance": self._running[1]}
        for i, params in enumerate(self._params):
            for j, p in enumerate(params):
                out[f"{i}.{j}"] = p.detach()
                for name, value in self._optimiser.state[p].items():
                    out[f"{i}.{j}.{name}"] = value
        return {name: value.detach().clone() for name, value in out.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        device = self._running[0].device
        self._running = state["mean"].to(device), state["variance"].to(device)
        with torch.no_grad():
            for i, params in enumerate(self._params):
                for j, p in enumerate(params):
                    p.copy_(state[f"{i}.{j}"])
                    names = ("step", "exp_avg", "exp_avg_sq")
                    found = {name: state[f"{i}.{j}.{name}"].clone() for name in names if f"{i}.{j}.{name}" in state}
                    self._optimiser.state[p] = {k: v if k == "step" else v.to(device) for k, v in found.items()}
