"""Teaching a ViT's patches what an average over shifted views gives for them; interrupted training goes on where it was.

The loss and the schedule of Chen et al. 2025 (arXiv 2505.21501).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from vitbench.backbones.vit import ViT
from vitbench.catalogue.ensembles import PhRegParams, TtaShiftParams
from vitbench.repairs.base import FitContext, State
from vitbench.repairs.tta_shift import shift_ensemble
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import TokenRequest
from vitbench.tokens.views import Pixels, batch, normalise, place

ROOM_BYTES = 1 << 30  # of targets kept in memory; those of further images are computed anew in each epoch
KEEP_STEPS = 25
PATCH = TokenRequest(("patch",))
WEIGHT_DECAY, BETAS = 1e-2, (0.9, 0.999)
MOMENTS = ("exp_avg", "exp_avg_sq")


class Lessons:
    """Train images in a seeded order, and the teacher's tokens of each, which depend on nothing but the image."""

    def __init__(self, view: ViT, context: FitContext, params: PhRegParams) -> None:
        self.context, self.patch_px = context, view.card.patch_px
        self.teacher = shift_ensemble(view, TtaShiftParams(views=params.views, candidates=max(100, params.views)))
        self.chosen = _order(context.images, context.seed, 0)[: params.images]
        self.batch_images = params.batch
        self._targets: dict[int, Tensor] = {}
        self._bytes = 0

    @property
    def steps(self) -> int:
        """Of one epoch."""
        return math.ceil(len(self.chosen) / self.batch_images)

    def images(self, step: int) -> list[int]:
        """Places of the images of a step, counted from the start of training; each epoch has its own order."""
        epoch, i = divmod(step, self.steps)
        order = _order(len(self.chosen), self.context.seed, 1 + epoch)
        return [self.chosen[j] for j in order[i * self.batch_images : (i + 1) * self.batch_images]]

    def groups(self, step: int) -> list[tuple[Tensor, Geometry, Tensor]]:
        """The images of a step by size: pixels (uint8 b 3 H W), geometry, the teacher's patches (b h w c, float32)."""
        sizes: dict[tuple[int, int], list[tuple[tuple[Pixels, Placement], Tensor]]] = {}
        places = self.images(step)
        for i, image in zip(places, self.context.pixels(places), strict=True):
            windows = place(image, self.context.view, self.patch_px)
            window = windows[i % len(windows)]
            sizes.setdefault(window[1].view_hw, []).append((window, self._target(i, window)))
        made = []
        for group in sizes.values():
            pixels, geometry = batch([window for window, _ in group], self.patch_px)
            made.append((pixels, geometry, torch.stack([target for _, target in group])))
        return made

    def _target(self, i: int, window: tuple[Pixels, Placement]) -> Tensor:
        if i in self._targets:
            return self._targets[i]
        # One image at a time: what it is taught does not depend on which others stand beside it.
        target = self.teacher.forward(*batch([window], self.patch_px), PATCH, [str(i)])["patch"][0].float().clone()
        if self._bytes + target.nbytes <= ROOM_BYTES:
            self._targets[i] = target
            self._bytes += target.nbytes
        return target


def distil(
    student: ViT,
    trained: Mapping[str, Tensor],
    lessons: Lessons,
    context: FitContext,
    params: PhRegParams,
    reduced: bool,
) -> None:
    """Train some tensors of the student, in place. `reduced`: the forward runs in bfloat16, weights stay in float32."""
    student.module.requires_grad_(False)
    optimiser = torch.optim.AdamW(
        [value.requires_grad_() for value in trained.values()], params.lr, BETAS, weight_decay=WEIGHT_DECAY
    )
    steps = params.epochs * lessons.steps
    for step in range(_restored(context.resumed(), trained, optimiser), steps):
        for group in optimiser.param_groups:
            group["lr"] = params.lr * (params.lr_end / params.lr) ** ((step + 1) / steps)
        optimiser.zero_grad()
        groups = lessons.groups(step)
        total = sum(len(pixels) for pixels, _, _ in groups)
        for pixels, geometry, target in groups:
            loss = _lesson(student, pixels, geometry, target, reduced) * (len(pixels) / total)
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if (step + 1) % KEEP_STEPS == 0 and step + 1 < steps:
            context.keep(_snapshot(step + 1, trained, optimiser))


def _lesson(student: ViT, pixels: Tensor, geometry: Geometry, target: Tensor, reduced: bool) -> Tensor:
    x = normalise(pixels.to(student.device), geometry, student.card.mean, student.card.std, torch.float32)
    keys = [str(i) for i in range(len(x))]
    with torch.autocast(student.device.type, torch.bfloat16, enabled=reduced):
        made = student._forward(x, PATCH, keys, geometry)["patch"]
    shown = torch.from_numpy(geometry.valid()).to(made.device)
    return difference(made[shown], target[shown])


def difference(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - mean cosine + mean squared error of tokens n c."""
    student, teacher = student.float(), teacher.float()
    return 1 - functional.cosine_similarity(student, teacher, dim=-1).mean() + functional.mse_loss(student, teacher)


def _order(n: int, seed: int, which: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + which)
    order: list[int] = torch.randperm(n, generator=generator).tolist()
    return order


def _snapshot(step: int, trained: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> State:
    out = {"step": torch.tensor(step)}
    for name, value in trained.items():
        out |= {f"{name}/value": value.detach(), **{f"{name}/{m}": optimiser.state[value][m] for m in MOMENTS}}
    return {name: value.detach().cpu().clone() for name, value in out.items()}


def _restored(kept: State, trained: Mapping[str, Tensor], optimiser: torch.optim.Optimizer) -> int:
    """Put back what an interrupted training kept; the step to go on with."""
    if not kept:
        return 0
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(kept[f"{name}/value"])
            moments = {m: kept[f"{name}/{m}"].to(value.device).clone() for m in MOMENTS}
            optimiser.state[value] = {"step": torch.tensor(float(kept["step"])), **moments}
    return int(kept["step"])
