"""ClearCLIP (Lan et al. 2024, arXiv 2407.12442): in the last block patches attend by q q^T; no residual, no MLP.

A = softmax(s q q^T); patches leave the block as O(A v).
"""

from __future__ import annotations

from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue.edits import CLEARCLIP, ClearClipParams
from vitbench.repairs.base import Repair, State
from vitbench.repairs.last_block import BlockInput, with_last_block


class ClearClip(Repair[ClearClipParams]):
    """Query-query attention in the last block, and nothing beside it."""

    card = CLEARCLIP

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        return with_last_block(backbone, self.card.name, by_queries, self.params.output == "reduced")


def by_queries(seen: BlockInput) -> Tensor:
    """b a T T: softmax of the queries' products."""
    return seen.similarity("query").softmax(dim=-1)
