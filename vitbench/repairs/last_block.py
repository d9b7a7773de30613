"""The frame of edits of the last block's attention, as made for CLIP: what the patches attend with, and what is kept.

Patches get other attention weights; CLS and registers keep the path they were trained with, so they leave the model as
before. Works on any ViT whose blocks add attention and then MLP to the stream; no text is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor

from vitbench.backbones.adapters import AttentionParts, layer_scales
from vitbench.backbones.base import Backbone
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.ensemble import Ensemble
from vitbench.backbones.field import FieldBackbone
from vitbench.backbones.vit import ViT
from vitbench.catalogue.suited import no_vit
from vitbench.errors import NotApplicableError


@dataclass(frozen=True)
class BlockInput:
    """What attention weights may depend on: the block's attention, its input x (b T c), RoPE, and the batch."""

    parts: AttentionParts
    x: Tensor
    rope: Tensor | None
    context: EditContext

    def similarity(self, which: Literal["query", "key"]) -> Tensor:
        """Scaled products b a T T of queries with queries, or of keys with keys."""
        heads = self.parts.compared(self.x, self.rope, which)
        products: Tensor = (heads * self.parts.scale) @ heads.transpose(-2, -1)
        return products


# Weights b a T T, or 1 1 T T where they do not depend on the input.
Weights = Callable[[BlockInput], Tensor]


def as_vit(backbone: Backbone, repair: str) -> ViT:
    """The backbone as a ViT; raises NotApplicableError for a control and for averages over views, whose blocks are out of reach."""
    if not isinstance(backbone, ViT):
        raise no_vit(repair, backbone.card.name, averaged=isinstance(backbone, Ensemble | FieldBackbone))
    return backbone


def with_last_block(backbone: Backbone, repair: str, weights: Weights, reduced: bool) -> ViT:
    """The backbone with other attention weights for the patches of its last block.

    reduced: the patches leave the block as its attention's output alone, without residual and MLP. Raises
    NotApplicableError for a backbone that is no ViT or whose blocks are of another kind.
    """
    view = as_vit(backbone, repair)
    block = view.blocks[-1]
    if type(block) not in (Block, EvaBlock):
        raise NotApplicableError(
            f"repair {repair!r}: no rule for a last block of class {type(block).__name__}", "use another backbone"
        )
    return view.edited(LastBlock(view.depth - 1, weights, layer_scales(block)[0], reduced))


class LastBlock(Edit):
    """Other attention weights for the patches of one block; `gain` (c) is the layer scale of its attention, if it has one."""

    def __init__(self, block: int, weights: Weights, gain: Tensor | None, reduced: bool) -> None:
        self.block, self.patch_weights, self.gain, self.reduced = block, weights, gain, reduced

    def attention_blocks(self, depth: int) -> tuple[int, ...]:
        return (self.block,)

    def weights(self, i: int, parts: AttentionParts, x: Tensor, rope: Tensor | None, context: EditContext) -> Tensor:
        prefix = context.prefix
        own = self.patch_weights(BlockInput(parts, x, rope, context))[..., prefix:, :].to(x.dtype)
        own = own.expand(len(x), parts.heads, -1, -1)
        if not prefix:
            return own
        return torch.cat((parts.logits(x, rope, queries=prefix).softmax(dim=-1).to(own.dtype), own), dim=2)

    def attended(self, i: int, y: Tensor, context: EditContext) -> Tensor:
        if self.reduced:
            context.memory[self] = y
        return y

    def after_block(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        if i != self.block or not self.reduced:
            return x
        y: Tensor = context.memory.pop(self)
        return context.with_grid(x, context.grid(y if self.gain is None else y * self.gain))
