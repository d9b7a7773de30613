"""Sparse attention (Su 2026, arXiv 2605.23868): entmax-1.5 in place of softmax.

The paper trains with it (as `lab_ssl_entmax` was); on weights trained with softmax it is an ablation.
"""

from __future__ import annotations

from vitbench.backbones.base import Backbone
from vitbench.backbones.sparse import Sparse, entmax15
from vitbench.catalogue.edits import SPARSE_ATTENTION, SparseAttentionParams
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import Repair, State
from vitbench.repairs.last_block import as_vit


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
