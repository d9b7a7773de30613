"""Attention by entmax-1.5 (Peters et al. 2019, arXiv 1905.05702) in place of softmax, as an edit of any ViT.

p_i = max(z_i / 2 - tau, 0)^2 with tau such that the weights sum to one: weak attention is exactly zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.backbones.adapters import attention_parts
from vitbench.backbones.edits import Edit, EditContext
from vitbench.errors import UnavailableError

# The package sorts this many of the largest logits first, and more where a row's support is larger: exact, and faster.
SORTED = 128


def entmax15() -> Callable[..., Any]:
    """The function of the `entmax` package; raises UnavailableError where it is not installed."""
    try:
        from entmax import entmax15 as found
    except ImportError as error:
        raise UnavailableError("sparse attention needs the package entmax", "pip install 'vitbench[entmax]'") from error
    function: Callable[..., Any] = found
    return function


class Sparse(Edit):
    """`sparsemax(logits, dim=-1, k=SORTED)` in place of softmax in the last `blocks` blocks."""

    def __init__(self, sparsemax: Callable[..., Any], blocks: int) -> None:
        self.sparsemax, self.blocks = sparsemax, blocks

    def attention_blocks(self, depth: int) -> tuple[int, ...]:
        return tuple(range(depth - self.blocks, depth))

    def attention(self, i: int, logits: Tensor, context: EditContext) -> Tensor:
        return sparse_weights(self.sparsemax, logits)


def sparse_weights(sparsemax: Callable[..., Any], logits: Tensor) -> Tensor:
    """Attention weights ... n from logits ... n, in float32: in half precision the rows miss one by several hundredths."""
    weights: Tensor = sparsemax(logits.to(torch.float32), dim=-1, k=SORTED)
    return weights.to(logits.dtype)


@contextmanager
def attending_sparsely(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """The blocks of models that are being trained attend by entmax-1.5 for as long as this lasts, gradients included."""
    sparsemax = entmax15()
    with ExitStack() as stack:
        for block in blocks:
            parts = attention_parts(block)

            def forward(x: Tensor, rope: Tensor | None = None, parts: Any = parts, **_masks: object) -> Tensor:
                output: Tensor = parts.output(x, sparse_weights(sparsemax, parts.logits(x, rope)))
                return output

            parts.module.forward = forward
            stack.callback(parts.module.__dict__.pop, "forward")
        yield
