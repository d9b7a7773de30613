"""Test-time registers (Jiang et al. 2025, arXiv 2506.08010): outliers move to a token of their own, without training.

A token is added after the positions. In blocks with register neurons, right after the nonlinearity, it takes each neuron's
largest activation over the other tokens, whose activation becomes zero. The token is dropped at the output.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT
from vitbench.catalogue.edits import TEST_TIME_REGISTERS, RegisterParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.last_block import as_vit
from vitbench.repairs.register_neurons import Outliers, count_outliers, find_outliers, ranked, score_neurons

COUNTS = (1, 2, 5, 10, 20, 50, 100)  # of neurons, tried in this order where top_k is found by rule
LEFT = 0.1  # of the outliers may be left for a number of neurons to be enough
SWEEP_IMAGES = 12


class AddedRegisters(Repair[RegisterParams]):
    """Finds register neurons on train images, and runs them on tokens that were added."""

    card = TEST_TIME_REGISTERS

    def fit(self, context: FitContext) -> State:
        """blocks, neurons (k int64) and scores (k), best first; threshold; outliers before and left on the sweep's images."""
        p = self.params
        if p.top_k == 0:
            return {name: torch.zeros(0, dtype=torch.int64) for name in ("blocks", "neurons")}
        view = as_vit(context.backbone(), self.card.name)
        outliers = find_outliers(context, p.detect, p.threshold)
        scores, images = score_neurons(view, context, outliers, p.images, p.sparse, SWEEP_IMAGES)
        ranking = ranked(scores, outliers.first if p.top_layer < 0 else p.top_layer)
        before = count_outliers(view, context, outliers, images)
        best: tuple[int, State] | None = None
        for k in (p.top_k,) if p.top_k > 0 else COUNTS:
            state = _state(ranking[:k], outliers)
            left = count_outliers(self._edited(view, state), context, outliers, images)
            if best is None or left < best[0]:
                best = left, {**state, "outliers": torch.tensor([before, left])}
            if left <= LEFT * before:
                break
        assert best is not None
        return best[1]

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        view = as_vit(backbone, self.card.name)
        return self._edited(view, state) if len(state["neurons"]) else view

    def _edited(self, view: ViT, state: State) -> ViT:
        chosen: dict[int, list[int]] = {}
        for block, neuron in zip(state["blocks"].tolist(), state["neurons"].tolist(), strict=True):
            chosen.setdefault(block, []).append(neuron)
        device = next(view.module.parameters()).device
        neurons = {block: torch.tensor(ids, device=device) for block, ids in chosen.items()}
        # The pre-norm maps the zeros that are added before it to its bias.
        start = getattr(getattr(view.module, "norm_pre", None), "bias", None)
        return view.edited(MoveToRegisters(neurons, self.params, start))


def _state(ranking: list[tuple[int, int, float]], outliers: Outliers) -> dict[str, Tensor]:
    blocks, neurons, scores = zip(*ranking, strict=True)
    return {
        "blocks": torch.tensor(blocks),
        "neurons": torch.tensor(neurons),
        "scores": torch.tensor(scores),
        "threshold": torch.tensor(outliers.threshold),
    }


class MoveToRegisters(Edit):
    """Adds tokens that start at `start` (c; None: zero) and take over the neurons (k ids) of each block."""

    def __init__(self, neurons: dict[int, Tensor], params: RegisterParams, start: Any = None) -> None:
        self.neurons, self.params, self.start = neurons, params, start
        self.added_registers = params.registers

    def before_blocks(self, x: Tensor, context: EditContext) -> Tensor:
        added = x.new_zeros(len(x), self.params.registers, x.shape[-1])
        if self.start is not None:
            added = added + self.start.to(x.dtype)
        context.memory[self] = slice(x.shape[1], x.shape[1] + self.params.registers)
        return torch.cat((x, added), dim=1)

    def hidden(self, i: int, h: Tensor, context: EditContext) -> Tensor:
        if i not in self.neurons:
            return h
        ids, out = self.neurons[i], h.clone()
        # The released code counts one token before the patches, as the models it was made for have.
        kept = min(context.prefix, 1) if self.params.variant == "released" else 0
        out[..., ids] = moved(h[..., ids], context.memory[self], kept, self.params)
        return out


def moved(a: Tensor, registers: slice, kept: int, params: RegisterParams) -> Tensor:
    """Activations b T k of register neurons -> the same with the registers (rows `registers`) in their stead.

    Every image for itself. The first `kept` tokens keep theirs. `paper`: per neuron, the largest over the other tokens;
    `released`: one number for all neurons, that of the largest magnitude over all tokens, with its sign.
    """
    rows = torch.arange(a.shape[1], device=a.device)
    added = (rows >= registers.start) & (rows < registers.stop)
    others = a[:, (rows >= kept) & ~added]
    if params.variant == "released":
        flat = a.flatten(1)
        value = flat.gather(1, flat.abs().argmax(dim=1, keepdim=True)).unsqueeze(-1)
    else:
        value = a.masked_fill(added[None, :, None], -torch.inf).amax(dim=1, keepdim=True)
    out = a.clone()
    out[:, (rows >= kept) & ~added] = _rest(others, params.rest)
    out[:, added] = params.scale * value
    return out


def _rest(others: Tensor, rule: str) -> Tensor:
    """What the other tokens (b t k) keep of the neurons."""
    if rule == "zero":
        return torch.zeros_like(others)
    if rule == "same" or (rule == "only_outliers" and others.shape[1] < 2):  # one token is no outlier of itself
        return others
    mean = others.mean(dim=1, keepdim=True)
    if rule == "mean":
        return mean.expand_as(others)
    return torch.where(others > mean + others.std(dim=1, keepdim=True), mean, others)
