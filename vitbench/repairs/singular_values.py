"""A ViT whose linear maps move only along their own singular values (Wang et al. 2024, arXiv 2407.16826).

Each linear map W = U diag(S) V^T of the blocks becomes W + U diag(eps) V^T, where eps alone is trained; of the attention's
input, the values alone move. The weight itself is replaced, not the module's forward, so every path that reads it (hooks,
packed projections, replaced attention) reads the trained one. At eps = 0 it is W bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vitbench.backbones.adapters import attention_parts
from vitbench.backbones.vit import ViT


@dataclass(frozen=True)
class Tunable:
    """A view on a copy of a ViT in float32, and per block the shifts of singular values that can be trained (k each)."""

    view: ViT
    shifts: tuple[Tensor, ...]

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """Weights that moved (out in, float32), by their name in the module that `tunable` was given."""
        moved = {}
        for i, (block, shifts) in enumerate(zip(self.view.blocks, self.shifts, strict=True)):
            if bool(shifts.any()):
                names = {linear: name for name, linear in block.named_modules()}
                for linear, _ in moving_linears(block):
                    moved[f"blocks.{i}.{names[linear]}.weight"] = linear.weight.detach().contiguous().clone()
        return moved


def tunable(view: ViT) -> Tunable:
    """The view, edits included, on a float32 copy of its module whose blocks can be trained by their singular values."""
    copied = on_copy(view, copy.deepcopy(view.module).float())
    copied.module.requires_grad_(False)
    shifts = []
    for block in copied.blocks:
        maps = [(linear, rows, _decomposed(linear.weight[rows])) for linear, rows in moving_linears(block)]
        sizes = [left.shape[1] for _, _, (left, _) in maps]
        own = torch.zeros(sum(sizes), device=copied.device, requires_grad=True)
        start = 0
        for (linear, rows, factors), size in zip(maps, sizes, strict=True):
            shift = _Shift(own, slice(start, start + size), rows, *factors)
            parametrize.register_parametrization(linear, "weight", shift)
            start += size
        shifts.append(own)
    return Tunable(copied, tuple(shifts))


def with_weights(view: ViT, weights: Mapping[str, Tensor]) -> ViT:
    """The view, edits included, on a copy of its module with some weights (out in) replaced; dtype and device stay.

    Planted tokens stay those of the given view.
    """
    copied = on_copy(view, copy.deepcopy(view.module))
    copied.flagged_by = (view.flagged_by or view) if view.edits else None
    with torch.no_grad():
        for name, weight in weights.items():
            copied.module.get_parameter(name).copy_(weight)
    return copied


def on_copy(view: ViT, module: nn.Module) -> ViT:
    """The same view, with the same edits, on another module of the same shape."""
    return type(view)(module, view.card, view.digest, view.edits)


def moving_linears(block: nn.Module) -> Iterator[tuple[nn.Linear, slice]]:
    """Linear maps of a block that are trained, each with the rows that move; queries and keys are none of them."""
    parts = attention_parts(block)
    packed = getattr(parts.module, "qkv", None)
    still: Sequence[nn.Module | None] = [getattr(parts.module, f"{which}_proj", None) for which in "qk"]
    for module in block.modules():
        if isinstance(module, nn.Linear) and not any(module is one for one in still):
            yield module, parts.rows("value") if module is packed else slice(0, module.out_features)


@torch.no_grad()
def _decomposed(weight: Tensor) -> tuple[Tensor, Tensor]:
    """U (out k) and V^T (k in) of the thin singular value decomposition."""
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    return left, right


class _Shift(nn.Module):
    """W -> W + U diag(eps) V^T in some of its rows; eps is a part of the block's vector of shifts."""

    def __init__(self, shifts: Tensor, part: slice, rows: slice, left: Tensor, right: Tensor) -> None:
        super().__init__()
        # None of these is a parameter of the module: its state stays that of the weights.
        self.shifts, self.part, self.rows, self.left, self.right = shifts, part, rows, left, right

    def forward(self, weight: Tensor) -> Tensor:
        change = (self.left * self.shifts[self.part]) @ self.right
        if self.rows.start == 0 and self.rows.stop == len(weight):
            return weight + change
        return torch.cat((weight[: self.rows.start], weight[self.rows] + change, weight[self.rows.stop :]))
