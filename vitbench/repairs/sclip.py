"""SCLIP (Wang et al. 2024, arXiv 2312.01597): in the last block patches attend by q q^T and by k k^T, summed.

A = softmax(s q q^T) + softmax(s k k^T); rows total two, as published. Residual and MLP are kept by default.
"""

from __future__ import annotations

from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue.edits import SCLIP, SClipParams
from vitbench.repairs.base import Repair, State
from vitbench.repairs.last_block import BlockInput, with_last_block


class SClip(Repair[SClipParams]):
    """Correlative self-attention in the last block."""

    card = SCLIP

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        return with_last_block(backbone, self.card.name, correlative, self.params.output == "reduced")


def correlative(seen: BlockInput) -> Tensor:
    """b a T T: the sum of both softmaxes."""
    return seen.similarity("query").softmax(dim=-1) + seen.similarity("key").softmax(dim=-1)
