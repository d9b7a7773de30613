"""The denoiser of DVT's stage 2 and how it is trained: one Transformer block over tokens to which learned positions are added.

Yang et al. 2024 (arXiv 2401.02957). Every step draws its batch from (seed, step) alone, so that an interrupted training
goes on to the same end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from vitbench.backbones.calibration import generator
from vitbench.backbones.neural_field import reconstruction
from vitbench.errors import UsageError

DEVIATION = 0.02  # of initial positions and weights
BETAS, DECAY = (0.9, 0.999), 1e-5
WARMUP, LAST = 0.15, 1e-6  # share of the steps; the rate at the end
PARTS = 10  # of a training, after each of which it is kept


class Denoiser(nn.Module):
    """D(y) = Block(y + positions), the positions of shape h w c."""

    def __init__(self, grid_shape: Sequence[int], heads: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(*grid_shape))
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.block = Block(grid_shape[-1], heads, mlp_ratio=4.0, qkv_bias=True, norm_layer=norm)

    def forward(self, y: Tensor, shown: Tensor | None = None) -> Tensor:
        """y b h w c -> the same, denoised; shown b h w: cells that are not padding, which nothing else attends to."""
        b, h, w, c = y.shape
        x = (y + resampled(self.positions, (h, w))).flatten(1, 2)
        mask = None if shown is None or bool(shown.all()) else shown.view(b, 1, 1, h * w)
        out: Tensor = self.block(x, attn_mask=mask).view(b, h, w, c)
        return out


def resampled(positions: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Positions h w c on another grid, bicubic."""
    if tuple(positions.shape[:2]) == grid_hw:
        return positions
    channels_first = positions.permute(2, 0, 1).unsqueeze(0)
    out = functional.interpolate(channels_first, size=grid_hw, mode="bicubic", align_corners=False)
    return out.squeeze(0).permute(1, 2, 0)


def heads_of(width: int, asked: int) -> int:
    """Heads of 64 channels, or the next fewer that divide the width; those asked for where there are any."""
    if asked and width % asked:
        raise UsageError(f"dvt: heads={asked} do not divide {width} channels", "heads=0 finds a number")
    return asked or next(n for n in range(max(width // 64, 1), 0, -1) if width % n == 0)


def started(grid_shape: Sequence[int], heads: int, random: torch.Generator) -> Denoiser:
    """An untrained denoiser for tokens h w c: positions and weights from a normal of deviation 0.02, biases zero."""
    model, start = _empty(grid_shape, heads), {}
    for name, value in model.state_dict().items():
        if value.ndim > 1:
            start[name] = DEVIATION * torch.randn(value.shape, generator=random)
        else:
            start[name] = torch.full(value.shape, float("norm" in name and name.endswith("weight")))
    model.load_state_dict(start, assign=True)
    return model.requires_grad_(True)


def stored(model: Denoiser) -> dict[str, Tensor]:
    """The state of a denoiser: positions h w c, block.*, and heads (an int)."""
    own = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return {**own, "heads": torch.tensor(model.block.attn.num_heads)}


def restored(state: Mapping[str, Tensor]) -> Denoiser:
    """The denoiser of a state."""
    model = _empty(state["positions"].shape, int(state["heads"]))
    model.load_state_dict({name: value for name, value in state.items() if name != "heads"}, assign=True)
    return model.eval().requires_grad_(False)


def _empty(grid_shape: Sequence[int], heads: int) -> Denoiser:
    with torch.device("meta"):
        return Denoiser(grid_shape, heads)


@dataclass(frozen=True)
class Pairs:
    """What a denoiser learns from, images first: raw and target n h w c (float16), shown n h w (bool)."""

    raw: Tensor
    target: Tensor
    shown: Tensor

    def drawn(self, count: int, random: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """raw, target (float32) and shown of a random batch."""
        chosen = torch.randint(len(self.raw), (count,), generator=random)
        return (
            self.raw[chosen].to(device, torch.float32),
            self.target[chosen].to(device, torch.float32),
            self.shown[chosen].to(device),
        )


@dataclass(frozen=True)
class Training:
    """steps of `batch` images; rate: at a batch of 256, lowered with the root of the batch as published."""

    steps: int
    batch: int
    rate: float
    seed: int

    def rate_at(self, step: int) -> float:
        top = self.rate * math.sqrt(self.batch / 256)
        up = WARMUP * self.steps
        if step < up:
            return top * (step + 1) / up
        done = (step - up) / max(self.steps - up, 1)
        return LAST + (top - LAST) * (1 + math.cos(math.pi * done)) / 2


def train(
    model: Denoiser,
    pairs: Pairs,
    training: Training,
    kept: Mapping[str, Tensor],
    keep: Callable[[Mapping[str, Tensor]], None],
) -> None:
    """Train a denoiser in place, from where `kept` (what `keep` was given last; empty at first) left off."""
    names = [name for name, _ in model.named_parameters()]
    optimiser = torch.optim.AdamW(model.parameters(), lr=training.rate, betas=BETAS, weight_decay=DECAY)
    first = _restore(model, optimiser, names, kept) if "step" in kept else 0
    every = max(math.ceil(training.steps / PARTS), 1)
    for step in range(first, training.steps):
        for group in optimiser.param_groups:
            group["lr"] = training.rate_at(step)
        random = generator("dvt batch", training.seed, step)
        raw, target, shown = pairs.drawn(training.batch, random, model.positions.device)
        made = model(raw, shown)
        loss = reconstruction(made[shown], target[shown])
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        if (step + 1) % every == 0 and step + 1 < training.steps:
            keep(_snapshot(model, optimiser, names, step + 1))


def _snapshot(model: Denoiser, optimiser: torch.optim.Optimizer, names: list[str], step: int) -> dict[str, Tensor]:
    out = {"step": torch.tensor(step)}
    for name, parameter in zip(names, model.parameters(), strict=True):
        out[f"model.{name}"] = parameter.detach().clone()
        out |= {f"adam.{name}.{key}": value.clone() for key, value in optimiser.state[parameter].items()}
    return out


def _restore(model: Denoiser, optimiser: torch.optim.Optimizer, names: list[str], kept: Mapping[str, Tensor]) -> int:
    for name, parameter in zip(names, model.parameters(), strict=True):
        parameter.data.copy_(kept[f"model.{name}"])
        prefix = f"adam.{name}."
        optimiser.state[parameter] = {
            key.removeprefix(prefix): value.to(value.device if key.endswith(".step") else parameter.device, copy=True)
            for key, value in kept.items()
            if key.startswith(prefix)
        }
    return int(kept["step"])
