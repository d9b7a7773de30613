"""Pixel cross-entropy of bilinearly upsampled logits, with its gradient, strip by strip.

Upsampling is two small matrix products, and so is its gradient; the loss and the gradient come from one sweep over the
pixels, a strip at a time, so memory grows with neither the batch nor the classes: many heads can be trained on one stream.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_VALUES = {"cpu": 1 << 20}  # pixels x classes at once: what stays in a CPU's caches
_VALUES_ELSEWHERE = 1 << 27


def stretch(length: int, cells: int, device: torch.device) -> Tensor:
    """Weights (length, cells) of bilinear upsampling along one axis, without aligned corners."""
    eye = torch.eye(cells, device=device)[None]
    return torch.nn.functional.interpolate(eye, length, mode="linear", align_corners=False)[0].T.contiguous()


def pixel_loss(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Cross-entropy of logits (b k h w) upsampled to labels (b H W), summed over valid pixels, over all pixels."""
    loss: Tensor = _PixelLoss.apply(logits, labels, ignore_index)
    return loss


class _PixelLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
        b, k, h, w = logits.shape
        down = stretch(labels.shape[1], h, logits.device)
        across = stretch(labels.shape[2], w, logits.device)
        values = _VALUES.get(logits.device.type, _VALUES_ELSEWHERE)
        step = max(values // (k * labels[0].numel()), 1)  # images
        strip = labels.shape[1] if k * labels[0].numel() <= values else max(values // (k * labels.shape[2]), 1)  # rows
        gradient = torch.zeros_like(logits)
        total = logits.new_zeros((), dtype=torch.float64)
        for i in range(0, b, step):
            for r in range(0, labels.shape[1], strip):
                loss, slope = _part(
                    logits[i : i + step], labels[i : i + step, r : r + strip], down[r : r + strip], across, ignore_index
                )
                total += loss
                gradient[i : i + step] += slope
        ctx.save_for_backward(gradient.div_(labels.numel()))
        return (total / labels.numel()).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None


def _part(logits: Tensor, labels: Tensor, down: Tensor, across: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Summed loss of some rows of some images, and its gradient for their logits n k h w."""
    valid = (labels != ignore_index)[:, None]
    truth = labels[:, None].masked_fill(~valid, 0)
    rows = torch.matmul(down, logits)  # n k r w, small; the large product is one plain one
    scores = (rows.flatten(0, 2) @ across.T).view(*rows.shape[:3], -1)
    scores -= scores.amax(1, keepdim=True)
    picked = scores.gather(1, truth)
    shares = scores.exp_()
    mass = shares.sum(1, keepdim=True)
    loss = ((mass.log() - picked) * valid).sum(dtype=torch.float64)
    shares *= valid / mass
    shares.scatter_add_(1, truth, -valid.to(shares.dtype))
    return loss, torch.matmul(down.T, (shares.flatten(0, 2) @ across).view(*rows.shape[:3], -1))
