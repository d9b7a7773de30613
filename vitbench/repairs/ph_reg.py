"""PH-Reg: registers put into a trained ViT by self-distillation (Chen et al. 2025, arXiv 2505.21501).

The teacher is the frozen backbone averaged over shifted views (`tta_shift`); the student is the backbone with new register
tokens, of which only the registers, the positions, the patch projection and the last block learn.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT
from vitbench.catalogue.ensembles import PH_REG, PhRegParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.distillation import Lessons, distil
from vitbench.repairs.last_block import as_vit
from vitbench.repairs.moments import require_images

REGISTERS, WEIGHT = "registers", "weight."


class PhReg(Repair[PhRegParams]):
    """A student with registers, taught by the average over shifted views; the state is what it has changed."""

    card = PH_REG

    def fit(self, context: FitContext) -> State:
        """registers (m c) and the weights that learned, by their names in the module, float32."""
        view, p = as_vit(context.backbone(), self.card.name), self.params
        if p.epochs == 0:
            return {REGISTERS: torch.zeros(0, view.card.embed_dim)}
        require_images(context, self.card.name)
        student = copied(view)
        student.to(view.device, torch.float32)
        registers = first_registers(p.registers, view.card.embed_dim, context.seed).to(view.device)
        trained = {REGISTERS: registers, **{WEIGHT + name: value for name, value in learners(student).items()}}
        reduced = view.dtype != torch.float32
        distil(student.edited(AddRegisters(registers)), trained, Lessons(view, context, p), context, p, reduced)
        return {name: value.detach().cpu() for name, value in trained.items()}

    def extra_parameters(self, state: State) -> int:
        """The registers: the other numbers stand in the place of the backbone's own."""
        return state[REGISTERS].numel()

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        view = as_vit(backbone, self.card.name)
        weights = {name.removeprefix(WEIGHT): value for name, value in state.items() if name.startswith(WEIGHT)}
        return with_weights(view, weights).edited(AddRegisters(state[REGISTERS])) if weights else view


class AddRegisters(Edit):
    """Appends tokens (m c), the same for every image, without positions; the order of tokens is nothing to a ViT."""

    def __init__(self, registers: Tensor) -> None:
        self.registers, self.added_registers = registers, len(registers)

    def before_blocks(self, x: Tensor, context: EditContext) -> Tensor:
        return torch.cat((x, self.registers.to(x).expand(len(x), -1, -1)), dim=1)


def first_registers(count: int, channels: int, seed: int) -> Tensor:
    """Seeded normal numbers of expected length one: m c."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, generator=generator) / math.sqrt(channels)


def learners(student: ViT) -> dict[str, Tensor]:
    """The weights that learn, by name: positions where there are any, the patch projection, and the last block."""
    last = f"blocks.{student.depth - 1}."
    named = student.module.named_parameters()
    return {name: p for name, p in named if name == "pos_embed" or name.startswith(("patch_embed.proj.", last))}


def copied(view: ViT) -> ViT:
    """The same view, edits included, on a copy of its module."""
    return type(view)(copy.deepcopy(view.module), view.card, view.digest, view.edits)


def with_weights(view: ViT, weights: Mapping[str, Tensor]) -> ViT:
    """The view on a copy of its module in which some parameters have other values; the given module stays as it is."""
    changed = copied(view)
    parameters = dict(changed.module.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(value)
    return changed
