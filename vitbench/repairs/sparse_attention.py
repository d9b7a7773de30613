"""Sparse attention (Su 2026, arXiv 2605.23868): entmax-1.5 (Peters et al. 2019, arXiv 1905.05702) in place of softmax.

p_i = max(z_i / 2 - tau, 0)^2 with tau such that the weights sum to one: weak attention is exactly zero. The paper trains with
it; on weights trained with softmax it is an ablation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.edits import Edit, EditContext
from vitbench.catalogue.edits import SPARSE_ATTENTION, SparseAttentionParams
from vitbench.errors import NotApplicableError, UnavailableError
from vitbench.repairs.base import Repair, State
from vitbench.repairs.last_block import as_vit

# The package sorts this many of the largest logits first, and more where a row's support is larger: exact, and faster.
SORTED = 128


class SparseAttention(Repair[SparseAttentionParams]):
    """Entmax-1.5 as the attention of every block, or of the last few."""

    card = SPARSE_ATTENTION

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        """Raises UnavailableError without the `entmax` package, NotApplicableError for more blocks than there are."""
        view, blocks = as_vit(backbone, self.card.name), self.params.blocks
        if blocks == 0:
            return view
        if blocks > view.depth:
            raise NotApplicableError(
                f"sparse_attention: blocks={blocks}, but {view.card.name!r} has {view.depth}", "-1 stands for all"
            )
        return view.edited(Sparse(entmax15(), view.depth if blocks < 0 else blocks))


def entmax15() -> Callable[..., Any]:
    """The function of the `entmax` package; raises UnavailableError where it is not installed."""
    try:
        from entmax import entmax15 as found
    except ImportError as error:
        raise UnavailableError(
            "repair 'sparse_attention' needs the package entmax", "pip install 'vitbench[entmax]'"
        ) from error
    function: Callable[..., Any] = found
    return function


class Sparse(Edit):
    """`sparsemax(logits, dim=-1, k=SORTED)` in place of softmax in the last `blocks` blocks."""

    def __init__(self, sparsemax: Callable[..., Any], blocks: int) -> None:
        self.sparsemax, self.blocks = sparsemax, blocks

    def attention_blocks(self, depth: int) -> tuple[int, ...]:
        return tuple(range(depth - self.blocks, depth))

    def attention(self, i: int, logits: Tensor, context: EditContext) -> Tensor:
        # In half precision the rows miss one by several hundredths.
        weights: Tensor = self.sparsemax(logits.to(torch.float32), dim=-1, k=SORTED)
        return weights.to(logits.dtype)
