"""Somebody's own module as a backbone, in one line: a timm ViT, a Hugging Face one, or one of DINO's hub kind.

The module's weights, hooks and mode stay as they are, so that it may be measured inside its own training loop.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vitbench.backbones.base import Backbone
from vitbench.backbones.checkpoints import state_digest
from vitbench.backbones.edits import as_grid
from vitbench.backbones.summaries import cls_cosines
from vitbench.backbones.vit import ViT, card_of, evaluating
from vitbench.catalogue.cards import IMAGENET_MEAN, IMAGENET_STD, BackboneCard
from vitbench.catalogue.fields import NO_ATTENTION, NO_FINAL_NORM, parse_field
from vitbench.catalogue.suited import no_field
from vitbench.errors import NotApplicableError, UsageError
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.types import TokenRequest

Triple = tuple[float, float, float]
_PROJECTION = {
    "query": re.compile(r"(^|\.)(query|q_proj|q_lin)$"),
    "key": re.compile(r"(^|\.)(key|k_proj|k_lin)$"),
    "value": re.compile(r"(^|\.)(value|v_proj|v_lin)$"),
}


def wrap(
    module: nn.Module,
    *,
    name: str | None = None,
    patch_px: int | None = None,
    mean: Triple | None = None,
    std: Triple | None = None,
    prefix_tokens: int | None = None,
) -> Backbone:
    """A backbone around a module that is in memory; what is not given is read off the module.

    timm ViTs get the full view; Hugging Face ViTs (`last_hidden_state`) and hub modules of DINO's kind
    (`forward_features` with `x_norm_patchtokens`, or `get_intermediate_layers`) give all but attention maps
    and earlier blocks through the final norm.
    patch_px: side of a patch in pixels. mean, std: of RGB in 0..1, ImageNet's where nothing else is known. prefix_tokens: CLS and
    registers, which stand before the patches. name: for tables. Raises UsageError for a module of no such kind.
    """
    card = BackboneCard(
        name=name or f"module:{type(module).__name__}",
        entry=None,
        family="module",
        kind="module",
        patch_px=patch_px or 0,
        prefix_tokens=0,
        registers=0,
        embed_dim=0,
        depth=0,
        mean=mean or IMAGENET_MEAN,
        std=std or IMAGENET_STD,
        weights="none",
        position="the module's own",
    )
    digest = state_digest(module)
    if hasattr(module, "num_prefix_tokens") and hasattr(module, "forward_intermediates"):
        config = getattr(module, "pretrained_cfg", None) or {}
        card = replace(card, mean=mean or config.get("mean") or card.mean, std=std or config.get("std") or card.std)
        return ViT(module, card_of(module, card), digest)
    return ModuleViT(module, card, digest, prefix_tokens)


class ModuleViT(Backbone):
    """A ViT of unknown make whose blocks and projections are found by structure; `patch` is after its own final norm."""

    module: nn.Module

    def __init__(self, module: nn.Module, card: BackboneCard, digest: str, prefix_tokens: int | None = None) -> None:
        self.module = module
        self.digest = digest
        config = getattr(module, "config", None)
        self.projection = _patch_projection(module)
        self.blocks = _blocks(module, getattr(config, "num_hidden_layers", None))
        registers = getattr(module, "num_register_tokens", getattr(config, "num_register_tokens", 0)) or 0
        self.prefix = (1 if _has_cls(module) else 0) + registers if prefix_tokens is None else prefix_tokens
        self.cls = min(int(_has_cls(module)), self.prefix)
        first = next(module.parameters())
        self.device, self.dtype = first.device, first.dtype
        self.card = replace(
            card,
            patch_px=card.patch_px or int(self.projection.kernel_size[0]),
            prefix_tokens=self.prefix,
            registers=self.prefix - self.cls,
            embed_dim=self.projection.out_channels,
            depth=len(self.blocks),
            blocks="hidden",
        )

    def _forward(
        self,
        pixels: Tensor,
        request: TokenRequest,
        keys: Sequence[str],  # noqa: ARG002 - part of the contract
        geometry: Geometry,
    ) -> dict[str, Tensor]:
        grid_hw, depth = geometry.grid_hw, len(self.blocks)
        patches = slice(self.prefix, self.prefix + grid_hw[0] * grid_hw[1])
        taken: dict[str, Tensor] = {}
        norms: list[Tensor] = []
        similar: list[Tensor] = []
        with ExitStack() as stack:
            stack.enter_context(evaluating(self.module))
            for name in request.fields:
                field = parse_field(name)
                block = depth - 1 if field.block is None else field.block
                if not -depth <= block < depth:
                    raise UsageError(f"backbone {self.card.name!r} has {depth} blocks, none of them is block {block}")
                self._watch(stack, field.kind, self.blocks[block], name, taken)
            if "norms" in request.fields:
                for b in self.blocks:
                    _on_output(
                        stack, b, lambda out: norms.append(torch.linalg.vector_norm(out, dim=-1, dtype=torch.float32))
                    )
            if "cls_similarity" in request.fields:
                for b in self.blocks:
                    _on_output(stack, b, lambda out: similar.append(cls_cosines(out, self.cls, patches)))
            final = self._final(pixels)
        if final.shape[1] != patches.stop:
            raise UsageError(
                f"backbone {self.card.name!r} gave {final.shape[1]} tokens for a {grid_hw[0]}x{grid_hw[1]} grid"
                f" and {self.prefix} prefix tokens",
                "say wrap(..., patch_px=..., prefix_tokens=...)",
            )
        out = {name: as_grid(value[:, patches], grid_hw) for name, value in taken.items() if value.ndim == 3}
        out |= {name: value.permute(0, 2, 3, 1) for name, value in taken.items() if value.ndim == 4}
        out |= {name: value for name, value in taken.items() if value.ndim == 2}
        out["patch"] = as_grid(final[:, patches], grid_hw)
        out["cls"] = self._cls(final)
        out["registers"] = final[:, self.cls : self.prefix]
        if similar:
            out["cls_similarity"] = torch.stack(similar, dim=1).reshape(len(final), -1, *grid_hw)
        for name in ("singular_cosine", "attention_spread"):  # hidden: fields without rows
            out[name] = torch.zeros(len(final), 0, *grid_hw, device=final.device)
        if norms:
            out["norms"] = torch.stack([n[:, patches] for n in norms], dim=1).reshape(len(final), -1, *grid_hw)
        return {name: value for name, value in out.items() if name in request.fields}

    def _cls(self, x: Tensor) -> Tensor:
        """CLS of tokens b T c, or their mean patch where there is none."""
        return x[:, 0] if self.cls else x[:, self.prefix :].mean(dim=1)

    def _watch(self, stack: ExitStack, kind: str, block: nn.Module, name: str, taken: dict[str, Tensor]) -> None:
        if kind in ("cls_attention", "register_attention"):
            raise no_field(name, NO_ATTENTION, self.card.name)
        if kind in ("normed", "cls_normed"):
            raise no_field(name, NO_FINAL_NORM, self.card.name)
        if kind in ("block", "patch_raw"):
            _on_output(stack, block, lambda out: taken.__setitem__(name, out))
        elif kind == "cls_block":
            _on_output(stack, block, lambda out: taken.__setitem__(name, self._cls(out)))
        elif kind == "patch_embed":
            _on_output(stack, self.projection, lambda out: taken.__setitem__(name, out))
        elif kind in _PROJECTION:
            module, where = self._projection(block, kind)
            _on_output(stack, module, lambda out: taken.__setitem__(name, out[..., where]))

    def _projection(self, block: nn.Module, kind: str) -> tuple[nn.Module, slice]:
        for name, module in block.named_modules():
            if _PROJECTION[kind].search(name) and isinstance(module, nn.Linear):
                return module, slice(None)
            if name.endswith("qkv") and isinstance(module, nn.Linear):
                width = module.out_features // 3
                start = list(_PROJECTION).index(kind) * width
                return module, slice(start, start + width)
        raise NotApplicableError(f"backbone {self.card.name!r} has no projection known as {kind!r}", "ask for `patch`")

    def _final(self, pixels: Tensor) -> Tensor:
        """Normalised pixels -> tokens b n c after the final norm, prefix first."""
        module: Any = self.module
        if hasattr(module, "forward_features"):
            found = module.forward_features(pixels)
            if isinstance(found, dict):
                registers = found.get("x_norm_regtokens")
                parts = [found["x_norm_clstoken"][:, None], registers, found["x_norm_patchtokens"]]
                return torch.cat([p for p in parts if p is not None], dim=1)
            if isinstance(found, Tensor) and found.ndim == 3:
                return found
        if hasattr(module, "get_intermediate_layers"):
            tokens: Tensor = module.get_intermediate_layers(pixels, 1)[0]
            return tokens
        options = {"interpolate_pos_encoding": True} if _interpolates(module) else {}
        found = module(pixels, **options)
        hidden = getattr(found, "last_hidden_state", None)
        if not isinstance(hidden, Tensor):
            raise UsageError(f"{type(module).__name__} gives no tokens in a way that is known", "see vitbench.wrap")
        return hidden


def _on_output(stack: ExitStack, module: nn.Module, keep: Any) -> None:
    """Hand a module's output to `keep` for one forward; Hugging Face blocks give tuples, tokens first."""

    def hook(_module: nn.Module, _args: Any, out: Any) -> None:
        keep(out[0] if isinstance(out, tuple) else out)

    stack.callback(module.register_forward_hook(hook).remove)


def _patch_projection(module: nn.Module) -> nn.Conv2d:
    for child in module.modules():
        if isinstance(child, nn.Conv2d) and child.in_channels == 3 and child.kernel_size == child.stride:
            return child
    raise UsageError(f"{type(module).__name__} has no patch projection of RGB images, so it is not a ViT")


def _blocks(module: nn.Module, count: int | None) -> list[nn.Module]:
    """The longest list of alike children with parts of their own (of `count`, where a configuration says how many)."""
    lists = [list(m) for m in module.modules() if isinstance(m, nn.ModuleList | nn.Sequential)]
    lists = [m for m in lists if m and len({type(b) for b in m}) == 1 and list(m[0].children())]
    fitting = [m for m in lists if count is None or len(m) == count]
    if not fitting:
        raise UsageError(f"{type(module).__name__} has no list of blocks, so it is not a ViT")
    return max(fitting, key=len)


def _has_cls(module: nn.Module) -> bool:
    return any(
        re.search(r"(^|\.)(cls_token|class_embedding|class_token)$", name) for name, _ in module.named_parameters()
    )


def _interpolates(module: nn.Module) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(module.forward).parameters
