"""Where images are defective: the walk of SINDER through the blocks of a ViT, up to the first defective one
(Wang et al. 2024, arXiv 2407.16826), and the rules that tell a defective block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT
from vitbench.catalogue.singular import SinderTuningParams
from vitbench.catalogue.views import View
from vitbench.repairs.moments import robust_threshold
from vitbench.repairs.neighbour_loss import cosines, inner, neighbour_loss, outlying
from vitbench.tokens.types import TokenRequest
from vitbench.tokens.views import batch, place

# A block is looked at where, in this share of the images, tokens are this near to its direction. On the lab's clean ViTs and
# on DeiT-Tiny no token is; in planted outliers it is all but equal to the direction.
ALONG, IMAGES_ALONG = math.cos(math.radians(40)), 0.05
PUBLISHED_CELLS = 37 * 37  # of the grid that the published least number of flags was for


@dataclass(frozen=True)
class Flags:
    """Of a batch at one block. cells, within: b h w, flagged cells and those with a smooth target; defective: b."""

    cells: Tensor
    within: Tensor
    defective: Tensor


@dataclass(frozen=True)
class Rule:
    """Which tokens are defective. directions: l c; thresholds: l, infinite for blocks that are not looked at.

    Without thresholds the published rule holds, within each image.
    """

    directions: Tensor
    params: SinderTuningParams
    thresholds: Tensor | None = None

    def looks_at(self, block: int) -> bool:
        return self.thresholds is None or bool(self.thresholds[block].isfinite())

    @torch.no_grad()
    def flags(self, block: int, cos: Tensor, valid: Tensor) -> Flags:
        """cos: b h w of the block; valid: b h w, False in padding."""
        within = inner(valid, self.params.kernel)
        if self.thresholds is None:
            cells = outlying(cos, valid, self.params.threshold) & within
        else:
            cells = (cos > self.thresholds[block].to(cos)) & within
        return Flags(cells, within, cells.sum((1, 2)) >= least_flags(self.params.least, valid))


def least_flags(least: int, valid: Tensor) -> Tensor:
    """Flags that make an image (b h w valid cells) defective: `least`, or, where that is 0, 3 in 37 x 37 cells; b."""
    count = valid.sum((1, 2))
    return torch.full_like(count, least) if least else (count * 3 / PUBLISHED_CELLS).round().long().clamp_min(1)


@dataclass
class Found:
    """Of each image of a batch: its first defective block (-1: none), and its loss there."""

    blocks: list[int]
    losses: list[Tensor | None]


class _WalkedError(Exception):
    """Every image has shown its first defective block, or no block is left: the rest of the forward is of no use."""


class _Walk(Edit):
    """Takes each image's loss at the first block where it is defective."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.found = rule, Found([], [])

    def before_blocks(self, x: Tensor, context: EditContext) -> Tensor:
        self.found = Found([-1] * len(x), [None] * len(x))
        return x

    def after_block(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        if not self.rule.looks_at(i):
            return x
        waiting = [n for n, block in enumerate(self.found.blocks) if block < 0]
        grid = context.grid(x)[waiting].float()
        valid = torch.from_numpy(context.geometry.valid()[waiting]).to(x.device)
        cos = cosines(grid, self.rule.directions[i].to(grid))
        flags = self.rule.flags(i, cos, valid)
        losses = neighbour_loss(grid, cos, flags.cells, flags.within, self.rule.params.kernel)
        for n in flags.defective.nonzero()[:, 0].tolist():
            self.found.blocks[waiting[n]], self.found.losses[waiting[n]] = i, losses[n]
        if min(self.found.blocks) >= 0 or not any(map(self.rule.looks_at, range(i + 1, context.depth))):
            raise _WalkedError
        return x


def walk(view: ViT, rule: Rule, images: Sequence[Any], how: View) -> Found:
    """First defective block of each image (of each window, where a view has several), with a loss autograd can follow."""
    edit = _Walk(rule)
    with suppress(_WalkedError):
        _run(view.edited(edit), images, how)
    return edit.found


class _Watch(Edit):
    """Keeps |cos| with the blocks' directions, l b h w, and the geometry, of each batch."""

    def __init__(self, directions: Tensor) -> None:
        self.directions = directions
        self.cos: list[Tensor] = []
        self.valid: list[Tensor] = []
        self._blocks: list[Tensor] = []

    def after_block(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        self._blocks.append(cosines(context.grid(x).float(), self.directions[i].to(x.device)).cpu())
        if i == context.depth - 1:
            self.cos.append(torch.stack(self._blocks))
            self.valid.append(torch.from_numpy(context.geometry.valid()))
            self._blocks = []
        return x


@torch.no_grad()
def survey(
    view: ViT, directions: Tensor, params: SinderTuningParams, batches: Iterable[Sequence[Any]], how: View
) -> tuple[Rule, float]:
    """The rule that a fit follows, and the share of the images that are defective by it.

    `robust`: blocks are looked at where some images have enough tokens along the direction; there, tokens are defective
    above the robust threshold of all tokens.
    """
    watch = _Watch(directions)
    for images in batches:
        _run(view.edited(watch), images, how)
    seen = list(zip(watch.cos, watch.valid, strict=True))
    thresholds = _thresholds(directions, params, seen) if params.rule == "robust" else None
    rule = Rule(directions, params, thresholds)
    defective = [_hit(rule, i, seen) for i in range(len(directions)) if rule.looks_at(i)]
    return rule, float(torch.stack(defective).any(0).float().mean()) if defective else 0.0


def _thresholds(directions: Tensor, params: SinderTuningParams, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
    along = Rule(directions, params, torch.full((len(directions),), ALONG))
    thresholds = torch.full((len(directions),), math.inf)
    for i in range(len(directions)):
        if _hit(along, i, seen).float().mean() >= IMAGES_ALONG:
            thresholds[i] = robust_threshold(torch.cat([cos[i][valid] for cos, valid in seen]).sort().values)
    return thresholds


def _hit(rule: Rule, block: int, seen: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Which images are defective at a block, n; seen: batches of (|cos| l b h w, valid b h w)."""
    return torch.cat([rule.flags(block, cos[block], valid).defective for cos, valid in seen])


def _run(view: ViT, images: Sequence[Any], how: View) -> None:
    """One forward of some images, for the sake of what the view's edits see."""
    pixels, geometry = batch([p for image in images for p in place(image, how, view.card.patch_px)], view.card.patch_px)
    with parametrize.cached():
        view.differentiable(pixels, geometry, TokenRequest(()), [f"fit-{i}" for i in range(len(pixels))])
