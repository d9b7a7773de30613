"""Many linear classifiers of image features trained at once by SGD: learning rates x parts of the features (Oquab et al. 2023).

Heads that read the same channels are one matrix product, so that the number of learning rates hardly costs time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitbench.heads.ridge import LinearHead


@dataclass(frozen=True)
class Part:
    """The channels start..stop of the features, and what they are called."""

    name: str
    start: int
    stop: int


class SgdBank:
    """One head per part and learning rate, in that order; rates fall to zero along a cosine.

    All heads start at N(0, 0.01) with zero bias, those of one part at the same weights.
    """

    def __init__(
        self, parts: Sequence[Part], outputs: int, learning_rates: Sequence[float], iterations: int, *, seed: int,
        device: torch.device, momentum: float = 0.9, weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        self._parts, self._named_rates, self._iterations = tuple(parts), tuple(learning_rates), iterations
        self._momentum, self._decay = momentum, weight_decay
        self._rates = torch.tensor(self._named_rates, dtype=torch.float32, device=device)
        self._params: list[Tensor] = []  # weight a k c and bias a k of every part
        for part in self._parts:
            generator = torch.Generator().manual_seed(seed)
            start = 0.01 * torch.randn(outputs, part.stop - part.start, generator=generator)
            self._params += [
                start.to(device).repeat(len(self._rates), 1, 1).requires_grad_(),
                torch.zeros(len(self._rates), outputs, device=device, requires_grad=True),
            ]
        self._velocity = [torch.zeros_like(p) for p in self._params]

    def __len__(self) -> int:
        return len(self._parts) * len(self._rates)

    def step(self, x: Tensor, iteration: int, loss: Callable[[Tensor], Tensor]) -> None:
        """One step of every head: features b c; `loss` of one head's logits b k is given those of all (a b k), and sums over a."""
        x = x.clone() if x.is_inference() else x  # tokens of a frozen forward, which autograd refuses to save
        value = loss(torch.cat([self._logits(x, i) for i in range(len(self._parts))]))
        gradients = torch.autograd.grad(value, self._params)
        rates = self._rates * 0.5 * (1 + math.cos(math.pi * iteration / self._iterations))
        with torch.no_grad():
            for p, v, gradient in zip(self._params, self._velocity, gradients, strict=True):
                v.mul_(self._momentum).add_(gradient + self._decay * p)
                p.sub_(rates.view(-1, *[1] * (p.ndim - 1)) * v)

    def _logits(self, x: Tensor, part: int) -> Tensor:
        weight, bias = self._params[2 * part], self._params[2 * part + 1]
        seen = x[:, self._parts[part].start : self._parts[part].stop]
        flat = torch.nn.functional.linear(seen, weight.flatten(0, 1), bias.flatten())
        return flat.view(len(seen), *bias.shape).transpose(0, 1)

    def heads(self) -> list[tuple[Part, float, LinearHead]]:
        """Every head with its part and base learning rate."""
        out = []
        for i, part in enumerate(self._parts):
            weight, bias = self._params[2 * i].detach(), self._params[2 * i + 1].detach()
            for j, rate in enumerate(self._named_rates):
                out.append((part, rate, LinearHead(weight[j].T.contiguous(), bias[j].clone())))
        return out

    def state(self) -> dict[str, Tensor]:
        """Everything that training goes on from, as tensors."""
        named = {f"p{i}": p for i, p in enumerate(self._params)} | {f"v{i}": v for i, v in enumerate(self._velocity)}
        return {name: value.detach().clone() for name, value in named.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave."""
        with torch.no_grad():
            for i, (p, v) in enumerate(zip(self._params, self._velocity, strict=True)):
                p.copy_(state[f"p{i}"])
                v.copy_(state[f"v{i}"])
