"""One view on any timm ViT's tokens: every field of the grammar from one run of the model's own `forward_features`.

The forward is exactly timm's (positions, pre-norm, RoPE, fused attention): fields are taken by hooks that live for one
call, and only those that the request names. Prefix tokens are counted from the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.backbones.adapters import PROJECTIONS, attention_parts
from vitbench.backbones.base import Backbone
from vitbench.backbones.edits import Edit, EditContext, as_grid, as_many, attention_owners, installed
from vitbench.backbones.singular import defect_directions
from vitbench.backbones.summaries import attention_spread, cls_cosines, direction_cosines
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.fields import Field, absent, parse_field
from vitbench.catalogue.suited import no_field
from vitbench.errors import NotApplicableError, TokensError, UsageError
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.types import TokenRequest

PER_BLOCK = ("norms", "cls_similarity", "singular_cosine")  # one number per patch after every block
STREAM_FIELDS = ("block", "normed", "cls_block", "cls_normed")
_NEEDED = ("forward_features", "patch_embed", "blocks", "norm", "num_prefix_tokens")


class ViT(Backbone):
    """A timm ViT (VisionTransformer, Eva and what shares their layout) as a backbone.

    `edits` change the forward, in order (see `vitbench.backbones.edits`). The module is never modified: not its
    weights, not its hooks, not its mode; several views may share it.
    """

    module: nn.Module

    def __init__(self, module: nn.Module, card: BackboneCard, digest: str = "", edits: Sequence[Edit] = ()) -> None:
        missing = [name for name in _NEEDED if not hasattr(module, name)]
        if missing:
            raise UsageError(
                f"{card.name!r}: {type(module).__name__} is not a ViT of timm's kind: it has no {missing[0]!r}"
            )
        self.module = module
        self.card = card
        self.digest = digest
        self.edits = tuple(edits)
        # The view before its weights were repaired: where a defect was planted is read off it, for a repair may undo the trigger.
        self.flagged_by: ViT | None = None
        self.prefix = int(module.num_prefix_tokens)  # type: ignore[arg-type]
        self.blocks: list[nn.Module] = list(module.blocks)  # type: ignore[arg-type]
        self.depth = len(self.blocks)
        self.has_cls = getattr(module, "cls_token", None) is not None
        # Registers that edits append are looked at where the backbone has none of its own.
        own = self.prefix - int(self.has_cls)
        self.added_registers = 0 if own else sum(edit.added_registers for edit in self.edits)
        first = next(module.parameters())
        self.device, self.dtype = first.device, first.dtype
        self._directions: Tensor | None = None

    @property
    def told(self) -> str:
        edits = ", ".join(type(edit).__qualname__ for edit in self.edits)
        return super().told + (f" edited by {edits}" if edits else "")

    def directions(self) -> Tensor:
        """Singular defect direction after every block, l c; none (0 c) where the blocks have no such directions."""
        if self._directions is None:
            try:
                self._directions = defect_directions(self.blocks)
            except NotApplicableError:
                self._directions = torch.zeros(0, self.card.embed_dim)
        return self._directions

    def edited(self, *edits: Edit, card: BackboneCard | None = None, digest: str | None = None) -> ViT:
        """A new view on the same module with further edits, applied after those it has."""
        view = type(self)(
            self.module, card or self.card, self.digest if digest is None else digest, (*self.edits, *edits)
        )
        view.flagged_by = self.flagged_by
        return view

    def _forward(
        self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Geometry
    ) -> dict[str, Tensor]:
        self._check_size(pixels)
        context = EditContext(tuple(keys), geometry, self.prefix, self.depth)
        wanted = {name: self._resolved(parse_field(name)) for name in request.fields}
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.module))
            stack.enter_context(installed(self.edits, self.blocks, context))
            taken = _Taken(stack, self, context, list(wanted.values()))
            final: Tensor = self.module.forward_features(pixels)  # type: ignore[operator]
        if self.card.final_norm == "fc_norm":
            final = self.module.fc_norm(final)  # type: ignore[operator]
        for edit in self.edits:
            final = as_many(edit, "output", edit.output(final, context), final)
        fields = {name: value for name, f in wanted.items() if (value := taken.value(f, final)) is not None}
        if self.flagged_by is not None and "flags" in request.fields:
            context.fields.update(self.flagged_by._forward(pixels, TokenRequest(("flags",)), keys, geometry))
        return {**context.fields, **fields}

    def _check_size(self, pixels: Tensor) -> None:
        """timm ViTs take one size unless they are told otherwise when they are built, as those loaded by name are."""
        only = getattr(self.module.patch_embed, "img_size", None)
        if not getattr(self.module, "dynamic_img_size", True) and only not in (None, tuple(pixels.shape[2:])):
            raise TokensError(
                f"backbone {self.card.name!r} takes images of {only} pixels only, not {tuple(pixels.shape[2:])}",
                "build it with dynamic_img_size=True",
            )

    def _resolved(self, field: Field) -> Field:
        """The field with its block counted from the first; the last block where none is named."""
        if field.kind == "patch_raw":
            return Field("block", self.depth - 1)
        if field.kind not in (*STREAM_FIELDS, *PROJECTIONS):
            return field
        try:
            return Field(field.kind, field.at(self.depth))
        except UsageError as error:
            raise UsageError(f"backbone {self.card.name!r}: {error}") from error


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for one forward; modules that were training (as inside a training loop) train again after."""
    training = [m for m in module.modules() if m.training]
    for m in training:
        m.training = False
    try:
        yield
    finally:
        for m in training:
            m.training = True


class _Taken:
    """The tensors that hooks take during one forward; views on the model's own tensors wherever possible."""

    def __init__(self, stack: ExitStack, view: ViT, context: EditContext, wanted: list[Field]) -> None:
        self.view, self.context = view, context
        self.replaced = attention_owners(view.edits, view.depth)
        self.blocks: dict[int, Tensor] = {}
        self.per_block: dict[str, list[Tensor]] = {kind: [] for kind in PER_BLOCK}
        self.projections: dict[Field, Tensor] = {}
        self.patch_embed: Tensor | None = None
        self.prefix_attention: Tensor | None = None
        self.spread: Tensor | None = None
        kinds = {f.kind for f in wanted}
        take_blocks = {f.block for f in wanted if f.kind in STREAM_FIELDS}
        per_block = [kind for kind in PER_BLOCK if kind in kinds]
        if "singular_cosine" in kinds and not len(view.directions()):
            per_block.remove("singular_cosine")
        for i, block in enumerate(view.blocks):
            if per_block or i in take_blocks:
                self._on_block(stack, block, i, i in take_blocks, per_block)
        for f in wanted:
            if f.kind in PROJECTIONS and f not in self.projections:
                self._on_projection(stack, f)
        if "patch_embed" in kinds:
            self._on_patch_embed(stack)
        if kinds & {"cls_attention", "register_attention"}:
            self._on_attention(stack, self.view.added_registers if "register_attention" in kinds else 0)
        if "attention_spread" in kinds:
            self._on_spread(stack)

    def _on_block(self, stack: ExitStack, block: nn.Module, i: int, keep: bool, per_block: Sequence[str]) -> None:
        def hook(_module: nn.Module, _args: Any, out: Tensor) -> None:
            if keep:
                self.blocks[i] = out
            for kind in per_block:
                self.per_block[kind].append(self._summary(kind, i, out))

        stack.callback(block.register_forward_hook(hook).remove)

    def _summary(self, kind: str, i: int, out: Tensor) -> Tensor:
        where = self.context.patch_slice
        if kind == "norms":
            norms: Tensor = torch.linalg.vector_norm(out[:, where], dim=-1, dtype=torch.float32)
            return norms
        if kind == "cls_similarity":
            return cls_cosines(out, int(self.view.has_cls), where)
        return direction_cosines(out[:, where], self.view.directions()[i])

    def _on_projection(self, stack: ExitStack, f: Field) -> None:
        parts = attention_parts(self.view.blocks[f.block or 0])
        which = next(p for p in PROJECTIONS if p == f.kind)
        source = parts.source(which)
        where = self.context.patch_slice

        def from_output(_module: nn.Module, _args: Any, out: Tensor) -> None:
            assert source is not None
            self.projections[f] = out[:, where, source[1]]

        def from_input(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            self.projections[f] = parts.project(args[0][:, where], which)

        if source is not None and f.block not in self.replaced:
            stack.callback(source[0].register_forward_hook(from_output).remove)
        else:
            stack.callback(parts.module.register_forward_pre_hook(from_input).remove)

    def _on_patch_embed(self, stack: ExitStack) -> None:
        def hook(_module: nn.Module, _args: Any, out: Tensor) -> None:
            self.patch_embed = out

        patch_embed: nn.Module = self.view.module.patch_embed  # type: ignore[assignment]
        stack.callback(patch_embed.register_forward_hook(hook).remove)

    def _on_attention(self, stack: ExitStack, added: int) -> None:
        last = self.view.depth - 1
        parts = attention_parts(self.view.blocks[last])
        editor = self.replaced.get(last)

        def hook(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            x, prefix, rope = args[0], self.context.prefix, kwargs.get("rope")
            rows = [*range(prefix), *range(x.shape[1] - added, x.shape[1])]
            if editor is not None:
                weights = editor.weights(last, parts, x, rope, self.context)[:, :, rows]
            elif not added:
                weights = parts.logits(x, rope, queries=prefix).softmax(dim=-1, dtype=torch.float32)
            else:  # an image at a time, as in `_on_spread`
                logits = torch.cat([parts.logits(image[None], rope)[:, :, rows] for image in x])
                weights = logits.softmax(dim=-1, dtype=torch.float32)
            self.prefix_attention = weights[..., self.context.patch_slice]

        stack.callback(parts.module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def _on_spread(self, stack: ExitStack) -> None:
        last = self.view.depth - 1
        try:
            parts = attention_parts(self.view.blocks[last])
        except NotApplicableError:
            return
        editor = self.replaced.get(last)

        def hook(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
            x, rope = args[0], kwargs.get("rope")
            if editor is None:  # an image at a time: all of a batch would be T x T weights for each of its heads
                weights: Any = (parts.logits(image[None], rope)[0].softmax(dim=-1, dtype=torch.float32) for image in x)
            else:
                weights = editor.weights(last, parts, x, rope, self.context)
            self.spread = attention_spread(weights, self.context.patch_slice, self.context.grid_hw)

        stack.callback(parts.module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def value(self, f: Field, final: Tensor) -> Tensor | None:
        """The field's tensor; None for fields that the sealed method fills in (pixels, flags)."""
        context, prefix, grid = self.context, self.context.prefix, self.context.grid_hw
        cls = int(self.view.has_cls)
        if f.kind == "patch":
            return context.grid(final)
        if f.kind in STREAM_FIELDS:
            return self._stream(f, cls)
        if f.kind in PROJECTIONS:
            return as_grid(self.projections[f], grid)
        if f.kind == "patch_embed":
            assert self.patch_embed is not None
            return as_grid(self.patch_embed.flatten(1, -2), grid)
        if f.kind in PER_BLOCK:
            found = self.per_block[f.kind]
            return torch.stack(found, dim=1).reshape(len(final), -1, *grid) if found else _none(final, grid)
        if f.kind == "attention_spread":
            return _none(final, grid) if self.spread is None else self.spread
        if f.kind == "cls":
            return final[:, 0] if cls else final[:, context.patch_slice].mean(dim=1)
        if f.kind == "registers":
            return final[:, cls:prefix]
        if f.kind in ("cls_attention", "register_attention"):
            return self._attention(f.kind, cls)
        return None

    def _stream(self, f: Field, cls: int) -> Tensor:
        """Patches or CLS after a block, before the final norm or through it."""
        x = self.blocks[f.block or 0]
        if f.kind in ("normed", "cls_normed"):
            module = self.view.module
            x = module.norm(x)  # type: ignore[operator]
            x = module.fc_norm(x) if self.view.card.final_norm == "fc_norm" else x  # type: ignore[operator]
        if f.kind in ("block", "normed"):
            return self.context.grid(x)
        return x[:, 0] if cls else x[:, self.context.patch_slice].mean(dim=1)

    def _attention(self, kind: str, cls: int) -> Tensor:
        assert self.prefix_attention is not None
        rows = self.prefix_attention[:, :, :cls] if kind == "cls_attention" else self.prefix_attention[:, :, cls:]
        if rows.shape[2] == 0:
            raise no_field(kind, absent(kind, 0, 0), self.view.card.name)
        rows = rows[:, :, 0] if kind == "cls_attention" else rows.mean(dim=1)
        return rows.reshape(*rows.shape[:2], *self.context.grid_hw)


def _none(like: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """A field without rows."""
    return torch.zeros(len(like), 0, *grid_hw, device=like.device)


def card_of(module: nn.Module, card: BackboneCard) -> BackboneCard:
    """The card with what only the module knows: patch, prefix tokens, sizes and the norm that gives `patch`."""
    patch: tuple[int, int] = module.patch_embed.patch_size  # type: ignore[union-attr, assignment]
    prefix = int(module.num_prefix_tokens)  # type: ignore[arg-type]
    norms = [n for n in ("norm", "fc_norm") if not isinstance(getattr(module, n, nn.Identity()), nn.Identity)]
    return replace(
        card,
        patch_px=patch[0],
        prefix_tokens=prefix,
        registers=prefix - int(getattr(module, "cls_token", None) is not None),
        embed_dim=int(module.embed_dim),  # type: ignore[arg-type]
        depth=len(module.blocks),  # type: ignore[arg-type]
        final_norm=norms[0] if norms else "none",
    )
