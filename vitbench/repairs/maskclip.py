"""MaskCLIP (Zhou et al. 2022, arXiv 2112.01071): in the last block each patch attends to itself alone.

The attention's output is O(v). `output=full` keeps residual and MLP, as the authors' code does; `reduced` gives O(v) alone,
as the comparisons of later papers do.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue.edits import MASKCLIP, MaskClipParams
from vitbench.repairs.base import Repair, State
from vitbench.repairs.last_block import BlockInput, with_last_block


class MaskClip(Repair[MaskClipParams]):
    """Identity as the attention of the last block."""

    card = MASKCLIP

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        return with_last_block(backbone, self.card.name, identity, self.params.output == "reduced")


def identity(seen: BlockInput) -> Tensor:
    """1 1 T T: every token sees itself."""
    return torch.eye(seen.x.shape[1], dtype=seen.x.dtype, device=seen.x.device)[None, None]
