# ruff: noqa: ARG002  (the defaults of `Edit` change nothing, so they use nothing)
"""Edits: changes of a ViT's forward, made by planted defects and by repairs, without touching its weights.

A view applies its edits in order at these places. `ViT.edited(edit)` gives a new view on the same module:

    patch embedding, positions, pre-norm -> before_blocks -> block 0 -> after_block(0) -> ... -> final norm -> output
                                                              |- weights(i), attention(i): attention weights of block i
                                                              |- attended(i): output of its attention
                                                              |- normed(i), hidden(i): input and neurons of its MLP

Every field that a view gives is taken after the edits, so norms, blocks and patches show what an edit does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.backbones.adapters import AttentionParts, attention_parts, mlp_parts
from vitbench.catalogue.suited import attention_taken
from vitbench.errors import RepairError
from vitbench.tokens.geometry import Geometry


@dataclass
class EditContext:
    """What an edit may know of the batch, and what it may leave behind.

    Tokens are b T c: `prefix` of them (CLS, registers), then the patches row by row, then any that an edit appended.
    `fields` takes further fields of the grammar, such as `flags` (b h w bool: tokens where a defect was planted);
    `memory` passes values from one place of an edit to a later one, keyed by the edit.
    """

    keys: tuple[str, ...]
    geometry: Geometry
    prefix: int
    depth: int
    fields: dict[str, Tensor] = field(default_factory=dict)
    memory: dict[Any, Any] = field(default_factory=dict)

    @property
    def grid_hw(self) -> tuple[int, int]:
        return self.geometry.grid_hw

    @property
    def patch_slice(self) -> slice:
        """Where the patches are among the tokens."""
        return slice(self.prefix, self.prefix + self.grid_hw[0] * self.grid_hw[1])

    def grid(self, x: Tensor) -> Tensor:
        """The patches of b T c as a view b h w c."""
        return as_grid(x[:, self.patch_slice], self.grid_hw)

    def with_grid(self, x: Tensor, grid: Tensor) -> Tensor:
        """b T c with its patches replaced by b h w c; a new tensor."""
        x = x.clone()
        x[:, self.patch_slice] = grid.flatten(1, 2).to(x.dtype)
        return x

    def flag(self, hit: Tensor) -> None:
        """Add tokens (b h w bool) to those where a defect was planted."""
        self.fields["flags"] = self.fields["flags"] | hit if "flags" in self.fields else hit


class Edit:
    """Base of all edits: override what is needed; return a new tensor or the one given, never change it in place.

    Anything random depends on a seed of the edit's own and on `context.keys`, never on the batch.
    added_registers: how many tokens it appends in `before_blocks`; whatever is appended is a register.
    """

    added_registers: int = 0

    def before_blocks(self, x: Tensor, context: EditContext) -> Tensor:
        """Tokens b T c before the first block. Tokens may be appended at the end; RoPE and fields skip them."""
        return x

    def after_block(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        """The residual stream b T c after block i (0-based), which is also what block i + 1 reads."""
        return x

    def normed(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        """Input b T c of block i's MLP, after the block's norm."""
        return x

    def hidden(self, i: int, h: Tensor, context: EditContext) -> Tensor:
        """Neurons b T hidden of block i's MLP: the input of its last linear map."""
        return h

    def weights(self, i: int, parts: AttentionParts, x: Tensor, rope: Tensor | None, context: EditContext) -> Tensor:
        """Attention weights b a T T of block i from its attention's input b T c; asked only in `attention_blocks`."""
        return self.attention(i, parts.logits(x, rope), context)

    def attention(self, i: int, logits: Tensor, context: EditContext) -> Tensor:
        """Attention weights b a T T of block i from its scaled logits: what `weights` gives by default."""
        return logits.softmax(dim=-1)

    def attention_blocks(self, depth: int) -> tuple[int, ...]:
        """Blocks whose attention weights this edit replaces; they leave the fused path, which costs time and memory."""
        return ()

    def attended(self, i: int, y: Tensor, context: EditContext) -> Tensor:
        """Output b T c of block i's attention, before layer scale and residual; asked only in `attention_blocks`."""
        return y

    def output(self, x: Tensor, context: EditContext) -> Tensor:
        """Tokens b T c after the final norm: what `patch`, `cls` and `registers` are read from."""
        return x


def overrides(edit: Edit, method: str) -> bool:
    """Whether an edit has its own version of a method, so that untouched places cost nothing."""
    return getattr(type(edit), method) is not getattr(Edit, method)


def as_grid(x: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """b n ... -> b h w ..., without a copy."""
    return x.reshape(x.shape[0], *grid_hw, *x.shape[2:])


def attention_owners(edits: Sequence[Edit], depth: int) -> dict[int, Edit]:
    """The edit that owns the softmax of each block that leaves the fused path; two claims on one block are refused."""
    owners: dict[int, Edit] = {}
    for edit in edits:
        claimed = edit.attention_blocks(depth)
        if taken := owners.keys() & set(claimed):
            raise attention_taken(max(taken))
        owners.update(dict.fromkeys(claimed, edit))
    return owners


def as_many(edit: Edit, method: str, y: Any, x: Tensor) -> Tensor:
    """What a method of an edit made of tokens x (b T c). Raises RepairError where it is of another shape."""
    if isinstance(y, Tensor) and y.shape == x.shape:
        return y
    made = tuple(y.shape) if isinstance(y, Tensor) else f"a {type(y).__name__}"
    raise RepairError(
        f"{method} of {type(edit).__qualname__} made {made} of {tuple(x.shape)}",
        "return as many tokens and channels as came",
    )


@contextmanager
def installed(edits: Sequence[Edit], blocks: Sequence[nn.Module], context: EditContext) -> Iterator[None]:
    """The edits at work on the blocks for the length of one forward; the blocks are as before when it ends."""
    with ExitStack() as stack:
        if edits:
            _edit_stream(stack, edits, blocks, context)
        for edit in edits:
            for method in ("normed", "hidden"):
                if overrides(edit, method):
                    _edit_mlp(stack, blocks, edit, method, context)
        for i, edit in attention_owners(edits, len(blocks)).items():
            _replace_attention(stack, blocks[i], i, edit, context)
        yield


def _edit_stream(stack: ExitStack, edits: Sequence[Edit], blocks: Sequence[nn.Module], context: EditContext) -> None:
    patches = context.grid_hw[0] * context.grid_hw[1]

    def before(i: int, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        x = args[0]
        if i == 0:
            for edit in edits:
                x = edit.before_blocks(x, context)
        appended = x.shape[1] - context.prefix - patches
        if kwargs.get("rope") is not None and appended:
            kwargs = {**kwargs, "rope": _padded_rope(kwargs["rope"], appended)}
        return (x, *args[1:]), kwargs

    def after(i: int, x: Tensor) -> Tensor:
        for edit in edits:
            x = as_many(edit, "after_block", edit.after_block(i, x, context), x)
        return x

    for i, block in enumerate(blocks):
        handle = block.register_forward_pre_hook(
            lambda _module, args, kwargs, i=i: before(i, args, kwargs), with_kwargs=True
        )
        stack.callback(handle.remove)
        if any(overrides(edit, "after_block") for edit in edits):
            stack.callback(block.register_forward_hook(lambda _module, _args, x, i=i: after(i, x)).remove)


def _edit_mlp(stack: ExitStack, blocks: Sequence[nn.Module], edit: Edit, method: str, context: EditContext) -> None:
    for i, block in enumerate(blocks):
        parts = mlp_parts(block)
        place = parts.out if method == "hidden" else parts.module
        handle = place.register_forward_pre_hook(
            lambda _module, args, i=i: (getattr(edit, method)(i, args[0], context), *args[1:])
        )
        stack.callback(handle.remove)


def _replace_attention(stack: ExitStack, block: nn.Module, i: int, edit: Edit, context: EditContext) -> None:
    """Run a block's attention unfused with the edit's weights: the method is shadowed on the instance for one call."""
    parts = attention_parts(block)

    def forward(x: Tensor, rope: Tensor | None = None, **_masks: object) -> Tensor:
        return edit.attended(i, parts.output(x, edit.weights(i, parts, x, rope, context)), context)

    parts.module.forward = forward
    stack.callback(lambda: parts.module.__dict__.pop("forward"))


def _padded_rope(rope: Tensor, extra: int) -> Tensor:
    """Rotation by nothing (sine 0, cosine 1) for tokens appended after the patches."""
    half = rope.shape[-1] // 2
    still = torch.cat((rope.new_zeros(half), rope.new_ones(half)))
    return torch.cat((rope, still.expand(*rope.shape[:-2], extra, -1)), dim=-2)
