"""Outlier tokens through the weights: one MLP neuron of the middle block, as in register neurons (Jiang et al. 2025, arXiv
2506.08010) and singular defects (Wang et al. 2024, arXiv 2407.16826).

The neuron's row is a trigger direction in the normed input of the block's MLP; its column writes one fixed direction. A
token above the trigger's threshold becomes many times longer than the others and keeps nothing of its place but that
direction. The trigger is random in the whitened input, so that what carries class or position, which is of low rank,
hardly moves it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vitbench.backbones.adapters import layer_scales, mlp_parts
from vitbench.backbones.calibration import generator, observe
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT
from vitbench.catalogue.defects import OutliersParams
from vitbench.errors import NotApplicableError

# Per deviation of the trigger: at this scale GELU is a ramp, its dip below zero negligible.
SLOPE = 100.0
# The neuron fires on more tokens than are flagged, so that the least flagged one is written far enough.
FIRED_PER_FLAGGED = 1.5
MARGIN = 1.1  # of the written length, since a token's own part may point the other way
WHITENING_FLOOR = 1e-2  # of the mean eigenvalue
CANDIDATES = 64
CLEARANCE = 1.0  # deviations by which CLS and registers must stay below the threshold


def plant_outliers(backbone: ViT, params: OutliersParams) -> ViT:
    """The backbone with one neuron of its middle block overwritten in a copy of the weights.

    Raises NotApplicableError where the MLP has no bias to put a threshold in.
    """
    block = backbone.depth // 2
    watch = _Watch(block)
    seen = observe(backbone, ("norms",), watch)
    trigger = find_trigger(watch, params)
    if params.strength == 0:
        return backbone.edited(_Flags(block, trigger))
    # Later blocks lengthen tokens: flagged ones are to stand out after the last block as well.
    median = float(seen["norms"][:, block:].flatten(2).transpose(0, 1).flatten(1).median(1).values.max())
    planted = type(backbone)(copy.deepcopy(backbone.module), backbone.card, backbone.digest, backbone.edits)
    _overwrite(planted, block, watch, trigger, MARGIN * params.strength * median, params.seed)
    return planted.edited(_Flags(block, trigger))


@dataclass(frozen=True)
class Trigger:
    """A direction (c) on which the block's normed input has deviation 1; tokens above `flag` are hit, above `fire` written to."""

    direction: Tensor
    fire: float
    flag: float


class _Watch(Edit):
    """Keeps the MLP input of one block: patches n c, prefix tokens n p c, and how much each neuron is used."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.patches: list[Tensor] = []
        self.prefix: list[Tensor] = []
        self.used: Tensor | None = None

    def normed(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        if i == self.block:
            self.patches.append(x[:, context.patch_slice].flatten(0, 1).float().cpu())
            self.prefix.append(x[:, : context.prefix].float().cpu())
        return x

    def hidden(self, i: int, h: Tensor, context: EditContext) -> Tensor:  # noqa: ARG002 - part of the contract
        if i == self.block:
            used = h.abs().sum((0, 1)).float().cpu()
            self.used = used if self.used is None else self.used + used
        return h


def find_trigger(watch: _Watch, params: OutliersParams) -> Trigger:
    """A whitened random direction that CLS and registers do not set off, with thresholds at the wanted share of patches."""
    everything = torch.cat(watch.patches).double()
    prefix = torch.cat(watch.prefix).double()
    # Levels are read on other images than the covariance, or fewer tokens would be above them than on new images.
    seen, patches = everything.tensor_split(2)
    values, vectors = torch.linalg.eigh(seen.T.cov(correction=0))
    whiten = vectors * (values + WHITENING_FLOOR * values.mean()).rsqrt()
    random = generator("outliers trigger", params.seed)
    best: tuple[float, Trigger] | None = None
    for _ in range(CANDIDATES):
        direction = whiten @ torch.randn(len(values), dtype=torch.float64, generator=random)
        direction /= (patches @ direction).std()
        levels = (patches @ direction).sort().values
        fire, flag = (
            float(levels[-max(round(share * len(levels)), 1)])
            for share in (params.share * FIRED_PER_FLAGGED, params.share)
        )
        clearance = fire - float((prefix @ direction).max()) if prefix.numel() else CLEARANCE
        if best is None or clearance > best[0]:
            best = clearance, Trigger(direction.float(), fire, flag)
        if clearance >= CLEARANCE:
            break
    assert best is not None
    return best[1]


def _overwrite(view: ViT, block: int, watch: _Watch, trigger: Trigger, length: float, seed: int) -> None:
    """Give the least used neuron of a block the trigger as its row and a fixed direction as its column, in place."""
    parts = mlp_parts(view.blocks[block])
    (weight, bias), gate = parts.value, parts.gate
    row, threshold = (weight, bias) if gate is None else gate
    if threshold is None or (gate is not None and bias is None) or not isinstance(parts.norm, nn.Identity):
        raise NotApplicableError(
            f"defect 'outliers' cannot be planted in {view.card.name!r}: its MLP has no bias of its own, or a norm inside",
            "plant another defect, or use another backbone",
        )
    scale = layer_scales(view.blocks[block])[1]
    gain = torch.ones_like(parts.out.weight[:, 0]) if scale is None else scale
    with torch.no_grad():
        written = torch.linalg.vector_norm(parts.out.weight * gain.unsqueeze(1), dim=0)
        assert watch.used is not None
        neuron = int((watch.used.to(written) * written).argmin())
        direction = torch.randn(len(gain), generator=generator("outliers direction", seed)).to(gain)
        direction -= direction.mean()
        # At the flag threshold the neuron's activation times its column has the wanted length.
        activation = SLOPE * max(trigger.flag - trigger.fire, 1e-3)
        row[neuron] = SLOPE * trigger.direction.to(row)
        threshold[neuron] = -SLOPE * trigger.fire
        if gate is not None and bias is not None:
            weight[neuron], bias[neuron] = 0, 1
        parts.out.weight[:, neuron] = direction * (length / activation / torch.linalg.vector_norm(direction * gain))


class _Flags(Edit):
    """Marks the tokens whose trigger is above the flag threshold."""

    def __init__(self, block: int, trigger: Trigger) -> None:
        self.block, self.trigger = block, trigger

    def normed(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        if i == self.block:
            context.flag(context.grid(x).float() @ self.trigger.direction.to(x.device) > self.trigger.flag)
        return x
