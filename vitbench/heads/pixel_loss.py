"""Pixel cross-entropy of bilinearly upsampled logits, with its gradient, strip by strip.

Upsampling is linear, so all that depends on the labels alone is made once on the grid and serves every head of a stream; the
loss and the gradient come from one sweep over the pixels, so memory grows with neither the batch nor the classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_VALUES = {"cpu": 1 << 20}  # pixels x classes at once: what stays in a CPU's caches
_VALUES_ELSEWHERE = 1 << 27
_DEEPEST = -80.0  # exp of it is still a normal float32


def stretch(length: int, cells: int, device: torch.device) -> Tensor:
    """Weights (length, cells) of bilinear upsampling along one axis, without aligned corners."""
    eye = torch.eye(cells, device=device)[None]
    return torch.nn.functional.interpolate(eye, length, mode="linear", align_corners=False)[0].T.contiguous()


def pixel_loss(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Cross-entropy of logits (b k h w) upsampled to labels (b H W), summed over valid pixels, over all pixels."""
    return PixelLoss(labels, ignore_index)(logits)


class PixelLoss:
    """`pixel_loss` of one batch of labels (b H W), for the logits of many heads."""

    def __init__(self, labels: Tensor, ignore_index: int) -> None:
        self._labels, self._ignore = labels, ignore_index
        self._values = _VALUES.get(labels.device.type, _VALUES_ELSEWHERE)
        self._series: _Series | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """logits b k h w -> the loss, with a gradient for them."""
        loss: Tensor = _PixelLoss.apply(logits, self)
        return loss

    def evaluated(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The loss (float64) and its gradient for the logits, both times the number of pixels."""
        if self._labels.shape[2] > logits.shape[3]:
            if self._series is None or self._series.grid != logits.shape[1:]:
                self._series = _Series(self._labels, self._ignore, logits, self._values)
            if (found := self._series.evaluated(logits)) is not None:
                return found
        return self._swept(logits)

    def _swept(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        b, k, h, w = logits.shape
        labels = self._labels
        down = stretch(labels.shape[1], h, logits.device)
        across = stretch(labels.shape[2], w, logits.device)
        images, strip = _chunk(self._values, k * labels.shape[2], labels.shape[1])
        gradient = torch.zeros_like(logits)
        total = logits.new_zeros((), dtype=torch.float64)
        for i in range(0, b, images):
            for r in range(0, labels.shape[1], strip):
                loss, slope = _part(
                    logits[i : i + images], labels[i : i + images, r : r + strip], down[r : r + strip], across, self._ignore
                )  # fmt: skip
                total += loss
                gradient[i : i + images] += slope
        return total, gradient


def _chunk(values: int, per_row: int, rows: int) -> tuple[int, int]:
    """How many images, and how many rows of each, are in work at once."""
    strip = max(values // per_row, 1)
    return max(strip // rows, 1), min(strip, rows)


class _PixelLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: PixelLoss) -> Tensor:
        total, gradient = targets.evaluated(logits)
        pixels = targets._labels.numel()
        ctx.save_for_backward(gradient.div_(pixels))
        return (total / pixels).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None


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


class _Series:
    """Between two cell centres logits are linear, so the exponentials of pixels in a row are a geometric series.

    One product per pixel and class takes the place of an exponential and of the upsampling. Arrays are u n k s r: the j-th
    of the at most u pixels in a space, image, class, the s = w + 1 spaces between centres (or the border and a centre), row.
    """

    def __init__(self, labels: Tensor, ignore_index: int, logits: Tensor, values: int) -> None:
        self.grid = logits.shape[1:]
        k, h, w = self.grid
        self._down = stretch(labels.shape[1], h, logits.device)
        columns, first, self._step = _spaces(labels.shape[2], w, logits.device)
        self._u = u = len(columns)
        self._first = first[:, None]  # where its first pixel is in a space of width 1
        index = torch.arange(u, device=logits.device, dtype=logits.dtype)
        self._sums = torch.stack([torch.ones_like(index), index * self._step])
        valid = labels != ignore_index
        self._truth = _carried_down(labels.masked_fill(~valid, 0), valid, (k, h, w))
        there = valid[:, :, columns.clamp(min=0)] & (columns >= 0)  # b H u s
        self._valid = there.permute(2, 0, 3, 1).to(logits.dtype).contiguous()
        self._images, self._strip = _chunk(values, k * u * (w + 1), labels.shape[1])
        self._images = min(self._images, len(labels))
        self._room = logits.new_empty(u * self._images * k * self._strip * (w + 1))

    def evaluated(self, logits: Tensor) -> tuple[Tensor, Tensor] | None:
        """The summed loss and its gradient; None where logits are so far apart that float32 could not hold the series."""
        below = logits - logits.amax(1, keepdim=True)  # the same for all classes of a pixel, so the shares stay
        if float(below.amin()) < _DEEPEST:
            return None
        columns = below.transpose(2, 3)
        padded = torch.cat([columns[:, :, :1], columns, columns[:, :, -1:]], 2)  # b k (w + 2) h
        gradient = torch.zeros_like(padded)
        total = -(below.double() * self._truth).sum()
        for i in range(0, len(logits), self._images):
            for r in range(0, self._valid.shape[3], self._strip):
                down = self._down[r : r + self._strip]
                rows = torch.matmul(padded[i : i + self._images], down.T)
                loss, slope = self._summed(rows, self._valid[:, i : i + self._images, :, r : r + self._strip])
                total += loss
                gradient[i : i + self._images] += torch.matmul(slope, down)
        inside = gradient[:, :, 1:-1].clone()
        inside[:, :, 0] += gradient[:, :, 0]
        inside[:, :, -1] += gradient[:, :, -1]
        return total, inside.transpose(2, 3) - self._truth

    def _summed(self, rows: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Summed log mass of rows n k (w + 2) r over valid pixels u n s r, and its gradient for them."""
        left = rows[:, :, :-1].contiguous()
        rise = rows[:, :, 1:] - left
        shares = self._room[: self._u * left.numel()].view(self._u, *left.shape)
        torch.exp(torch.addcmul(left, rise, self._first), out=shares[0])
        ratio = rise.mul_(self._step).exp_()
        done = 1
        while done < self._u:  # twice as many each time: p, p q | p q^2, p q^3 | ...
            more = min(done, self._u - done)
            torch.mul(shares[:more], ratio, out=shares[done : done + more])
            ratio.square_()
            done += more
        mass = shares.sum(2)
        weight = valid / mass
        loss = mass.log_().mul_(valid).sum()
        shares *= weight[:, :, None]
        whole, along = (self._sums @ shares.flatten(1)).view(2, *left.shape)
        right = torch.addcmul(along, whole, self._first)
        slope = torch.zeros_like(rows)
        slope[:, :, :-1] = whole.sub_(right)
        slope[:, :, 1:] += right
        return loss, slope


def _spaces(length: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor, float]:
    """Which pixels (u s, -1: none) lie in each space before, between and behind the centres of cells along an axis.

    Also where the first of each lies in its space, and the step to the next; a space has width 1.
    """
    step = cells / length
    at = (torch.arange(length, device=device) + 0.5) * step - 0.5
    space = at.floor().long() + 1
    counts = torch.bincount(space, minlength=cells + 1)
    starts = counts.cumsum(0) - counts
    index = torch.arange(int(counts.max()), device=device)[:, None]
    return torch.where(index < counts, starts + index, -1), at[starts] - at[starts].floor(), step


def _carried_down(truth: Tensor, valid: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """One-hot labels of valid pixels (b H W) carried to the grid by the transpose of upsampling: b k h w, float32."""
    k, h, w = grid
    sides = [_neighbours(length, cells, truth.device) for length, cells in zip(truth.shape[1:], (h, w), strict=True)]
    base = (torch.arange(len(truth), device=truth.device)[:, None, None] * k + truth) * (h * w)
    out = torch.zeros(len(truth) * k * h * w, device=truth.device)
    for rows, down in sides[0]:
        for columns, across in sides[1]:
            weight = valid * down[:, None] * across
            out.index_add_(0, (base + (rows * w)[:, None] + columns).flatten(), weight.flatten())
    return out.view(-1, k, h, w)


def _neighbours(length: int, cells: int, device: torch.device) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two cells that each position of an axis is sampled from, with their weights."""
    at = ((torch.arange(length, device=device) + 0.5) * (cells / length) - 0.5).clamp(0, cells - 1)
    low = at.long()
    return (low, 1 - (at - low)), ((low + 1).clamp(max=cells - 1), at - low)
