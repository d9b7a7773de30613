"""SINDER: fine-tuning singular values until tokens along a defect direction look like their neighbours
(Wang et al. 2024, arXiv 2407.16826).

Every step takes an image to its first defective block and moves the singular values of the last blocks up to it; the
trained values are folded back, so that the repaired ViT is a ViT as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.singular import defect_directions
from vitbench.catalogue.singular import SINDER, SinderTuningParams
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.defect_walk import Found, Rule, survey, walk
from vitbench.repairs.last_block import as_vit
from vitbench.repairs.moments import require_images
from vitbench.repairs.singular_values import Tunable, tunable, with_weights

SURVEY = 100  # train images that are looked at before anything is trained
KEEP_EVERY = 100  # steps


class Sinder(Repair[SinderTuningParams]):
    """State: the weights that moved (out in, float32), by name.

    They are kept whole, not as shifts of singular values: a decomposition is unique neither between machines nor where
    singular values are equal, so only the weights themselves come back bit for bit.
    """

    card = SINDER

    def fit(self, context: FitContext) -> State:
        """Raises NotApplicableError where no image is defective, or the blocks have no singular directions."""
        require_images(context, self.card.name)
        view = as_vit(context.backbone(), self.card.name)
        directions = defect_directions(view.blocks).float()
        tuned = tunable(view)
        progress = _resumed(context.resumed(), tuned) or self._start(context, tuned, directions)
        rule = Rule(directions, self.params, progress.thresholds)
        for images in self._images(context, progress):
            self._step(tuned, rule, walk(tuned.view, rule, images, context.view), progress)
            if sum(progress.sound) >= self.params.stop * len(progress.sound):
                break
            if progress.step % KEEP_EVERY == 0:
                context.keep(progress.state(tuned))
        moved = tuned.folded()
        if not moved:
            raise NotApplicableError(
                f"repair {self.card.name!r}: no step moved a weight, since no gradient was finite or no image defective any more",
                "allow more steps or epochs, or check the weights",
            )
        return moved

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        return with_weights(as_vit(backbone, self.card.name), state)

    def extra_parameters(self, state: State) -> int:
        return 0

    def _start(self, context: FitContext, tuned: Tunable, directions: Tensor) -> _Progress:
        """Thresholds of the rule, from the first images. Raises NotApplicableError where none of them is defective."""
        seen = _chunks(_order(context, 0)[:SURVEY], self.params.batch)
        rule, share = survey(
            tuned.view, directions, self.params, (list(context.pixels(some)) for some in seen), context.view
        )
        if not share:
            raise NotApplicableError(
                f"repair {self.card.name!r}: none of {min(SURVEY, context.images)} train images is defective "
                f"({self.params.rule} rule), so there is nothing to repair",
                "the backbone may have no such artefacts: leave it as it is",
            )
        return _Progress.fresh(tuned, rule.thresholds, min(self.params.history, context.images))

    def _images(self, context: FitContext, progress: _Progress) -> Iterator[list[Any]]:
        """Batches from where the fit stands, every epoch in an order of its own."""
        p = self.params
        chunks = [some for epoch in range(p.epochs) for some in _chunks(_order(context, epoch), p.batch)][: p.steps]
        for some in chunks[progress.step :]:
            yield list(context.pixels(some))

    def _step(self, tuned: Tunable, rule: Rule, found: Found, progress: _Progress) -> None:
        """One step of momentum for the blocks that gradients reach; others stay. A step that is not finite is left out."""
        progress.step += 1
        progress.sound = [*progress.sound, *(block < 0 for block in found.blocks)][-len(progress.sound) :]
        gradients = _gradients(tuned.shifts, found, self.params.layers)
        if not all(bool(g.isfinite().all()) for g in gradients.values()):
            return
        with torch.no_grad():
            for i, gradient in gradients.items():
                progress.momenta[i].mul_(self.params.momentum).add_(gradient)
                tuned.shifts[i].sub_(progress.momenta[i], alpha=self.params.lr)


def _gradients(shifts: Sequence[Tensor], found: Found, layers: int) -> dict[int, Tensor]:
    """By block, of the mean loss of the defective images; an image trains `layers` blocks up to its first defective one."""
    out: dict[int, Tensor] = {}
    count = sum(block >= 0 for block in found.blocks)
    for last in sorted({block for block in found.blocks if block >= 0}):
        losses = [x for block, x in zip(found.blocks, found.losses, strict=True) if block == last and x is not None]
        reached = range(max(0, last + 1 - layers), last + 1)
        found_here = torch.autograd.grad(
            torch.stack(losses).sum() / count, [shifts[i] for i in reached], retain_graph=True
        )
        for i, gradient in zip(reached, found_here, strict=True):
            out[i] = out[i] + gradient if i in out else gradient
    return out


@dataclass
class _Progress:
    """What a fit has come to: steps taken, momenta per block, thresholds, and which of the last images were sound."""

    step: int
    momenta: list[Tensor]
    thresholds: Tensor | None
    sound: list[bool]

    @staticmethod
    def fresh(tuned: Tunable, thresholds: Tensor | None, history: int) -> _Progress:
        return _Progress(0, [torch.zeros_like(shift) for shift in tuned.shifts], thresholds, [False] * history)

    def state(self, tuned: Tunable) -> State:
        named = {f"shift.{i}": x.detach() for i, x in enumerate(tuned.shifts)}
        named |= {f"momentum.{i}": x for i, x in enumerate(self.momenta)}
        if self.thresholds is not None:
            named["thresholds"] = self.thresholds
        return {**named, "step": torch.tensor(self.step), "sound": torch.tensor(self.sound)}


def _resumed(kept: State, tuned: Tunable) -> _Progress | None:
    """What an interrupted fit kept, its shifts written back; None where there is nothing."""
    if not kept:
        return None
    with torch.no_grad():
        for i, shift in enumerate(tuned.shifts):
            shift.copy_(kept[f"shift.{i}"])
    momenta = [kept[f"momentum.{i}"].to(shift) for i, shift in enumerate(tuned.shifts)]
    return _Progress(int(kept["step"]), momenta, kept.get("thresholds"), kept["sound"].tolist())


def _order(context: FitContext, epoch: int) -> list[int]:
    seeded = torch.Generator().manual_seed(context.seed * 1_000_003 + epoch)
    order: list[int] = torch.randperm(context.images, generator=seeded).tolist()
    return order


def _chunks(order: Sequence[int], size: int) -> list[Sequence[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
