"""Running sums of weighted tokens and targets: all that closed-form heads need, in memory that does not grow with the data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROWS = 16_384  # rows per float32 product, before they are added up in float64


@dataclass
class Moments:
    """Weighted sums of x (c), y (k) and their products, in float64, of values shifted by `x0`.

    The shift (the mean of the first rows) keeps float32 products accurate where features have a large common component.
    """

    x0: Tensor
    n: float
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: float

    @staticmethod
    def empty(x0: Tensor, outputs: int) -> Moments:
        """Nothing added yet; x0: (c,) float32 shift."""
        wide = x0.new_zeros(len(x0), dtype=torch.float64)
        return Moments(
            x0,
            0.0,
            wide,
            wide.new_zeros(outputs),
            wide.new_zeros(len(x0), len(x0)),
            wide.new_zeros(len(x0), outputs),
            0.0,
        )

    def add(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> None:
        """Add rows: x n c, y n k, weight n (not negative; none: one each), float32."""
        for i in range(0, len(x), _ROWS):
            xs, ys = x[i : i + _ROWS] - self.x0, y[i : i + _ROWS]
            if weight is None:
                wx, wy = xs, ys
                self.n += len(xs)
            else:
                w = weight[i : i + _ROWS, None]
                wx, wy = xs * w, ys * w
                self.n += float(w.sum(dtype=torch.float64))
            self.x += wx.sum(0, dtype=torch.float64)
            self.y += wy.sum(0, dtype=torch.float64)
            self.xx += wx.T @ xs
            self.xy += wx.T @ ys
            self.yy += float((wy * ys).sum(dtype=torch.float64))

    def __add__(self, other: Moments) -> Moments:
        if not torch.equal(self.x0, other.x0):
            raise ValueError("moments with different shifts do not add up")
        return Moments(
            self.x0, self.n + other.n, self.x + other.x, self.y + other.y,
            self.xx + other.xx, self.xy + other.xy, self.yy + other.yy,
        )  # fmt: skip
