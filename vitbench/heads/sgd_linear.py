"""A 1x1 convolution trained by SGD on batches of token grids, as the linear probe of Leopart and its successors is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from vitbench.heads.ridge import LinearHead

Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]  # epoch -> tokens b h w c and labels b H W int64


def fit_sgd_linear(
    batches: Batches, channels: int, n_classes: int, *, learning_rate: float, momentum: float, weight_decay: float,
    epochs: int, drop_epoch: int, ignore_index: int, seed: int, device: torch.device,
) -> LinearHead:  # fmt: skip
    """Cross-entropy of logits upsampled bilinearly to the labels' size, mean over valid pixels; rate x 0.1 after `drop_epoch`."""
    generator = torch.Generator().manual_seed(seed)
    weight = (0.01 * torch.randn(channels, n_classes, generator=generator)).to(device).requires_grad_()
    bias = torch.zeros(n_classes, device=device, requires_grad=True)
    optimiser = torch.optim.SGD([weight, bias], lr=learning_rate, momentum=momentum, weight_decay=weight_decay)
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (0.1 if epoch >= drop_epoch else 1.0)
        for x, labels in batches(epoch):
            if not bool((labels != ignore_index).any()):
                continue
            optimiser.zero_grad()
            logits = upsampled_logits(x, weight, bias, (labels.shape[1], labels.shape[2]))
            loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=ignore_index)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return LinearHead(weight.detach(), bias.detach())


def upsampled_logits(x: Tensor, weight: Tensor, bias: Tensor, hw: tuple[int, int]) -> Tensor:
    """Tokens b h w c -> logits b k H W, bilinear without aligned corners."""
    logits = (x @ weight + bias).permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(logits, hw, mode="bilinear", align_corners=False)
