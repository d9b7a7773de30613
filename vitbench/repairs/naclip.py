"""NACLIP (Hajimiri et al. 2025, arXiv 2404.08181): in the last block patches attend by k k^T and to what is near.

A = softmax(s k k^T + omega) with omega[t, t'] = exp(-dist(t, t')^2 / (2 sigma^2)), distances in patches; omega is zero in
the columns of CLS, registers and added tokens. Patches leave the block as O(A v).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue.edits import NACLIP, NaClipParams
from vitbench.repairs.base import Repair, State
from vitbench.repairs.last_block import BlockInput, with_last_block


class NaClip(Repair[NaClipParams]):
    """Key-key attention with a Gaussian around each patch in the last block, and nothing beside it."""

    card = NACLIP

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        sigma = self.params.sigma

        def near_keys(seen: BlockInput) -> Tensor:
            logits = seen.similarity("key")
            where = seen.context.patch_slice
            omega = torch.zeros(logits.shape[-2:], dtype=logits.dtype, device=logits.device)
            omega[where, where] = neighbourhood(seen.context.grid_hw, sigma).to(omega)
            return (logits + omega).softmax(dim=-1)

        return with_last_block(backbone, self.card.name, near_keys, self.params.output == "reduced")


def neighbourhood(grid_hw: tuple[int, int], sigma: float) -> Tensor:
    """(h w) (h w): Gaussian of the distance between cells, one on the diagonal, float32."""
    rows, cols = (torch.arange(n, dtype=torch.float32) for n in grid_hw)
    along_rows, along_cols = ((-((x[:, None] - x) ** 2) / (2 * sigma**2)).exp() for x in (rows, cols))
    return torch.kron(along_rows, along_cols)
