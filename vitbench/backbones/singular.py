"""Singular defect directions in closed form: what a block writes whatever it reads (Wang et al. 2024, arXiv 2407.16826).

Up to a block the network is replaced by one linear map of a single token: attention is the identity, norms keep their
centring and scale but not the division, non-linear parts are their least-squares slope over standard normal inputs. Its
first left singular vector is the block's direction. The original draws 100,000 samples; here the slope is exact by
Stein's lemma (E[y x] = E[dy/dx] for x ~ N(0, I)), so that nothing is random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import GELU, RmsNorm
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from vitbench.backbones.adapters import MlpParts, attention_parts, layer_scales, mlp_parts
from vitbench.errors import NotApplicableError

NODES, REACH = 512, 9.0  # of the trapezoidal rule, and how many deviations they span to either side
LEAST_DEVIATION = 1e-4  # of a pre-activation: a neuron that reads nothing has no slope


@torch.no_grad()
def defect_directions(blocks: Sequence[nn.Module]) -> Tensor:
    """Unit direction after every block, l c in float64; the entry of largest magnitude is positive.

    Raises NotApplicableError for blocks, norms or activations that the linear map has no rule for.
    """
    total: Tensor | None = None
    found = []
    for block in blocks:
        own = block_map(block)
        total = own if total is None else own @ total
        total = total / torch.linalg.matrix_norm(total)  # else forty factors leave the range of the numbers
        direction = torch.linalg.eigh(total @ total.T).eigenvectors[:, -1]
        found.append(direction * direction[direction.abs().argmax()].sign())
    return torch.stack(found)


@torch.no_grad()
def block_map(block: nn.Module) -> Tensor:
    """The linear map of one pre-norm block on a single token, c c in float64."""
    if not isinstance(block, Block | EvaBlock):
        raise NotApplicableError(
            f"blocks of class {type(block).__name__} have no singular directions here",
            "use a pre-norm ViT of timm's kind",
        )
    attention, mlp = attention_parts(block), mlp_parts(block)
    module: Any = attention.module
    if getattr(module, "gate", None) is not None:
        raise NotApplicableError("gated attention has no singular directions here", "use another repair")
    value = attention.weight("value")[0].double()
    value = value.reshape(attention.kv_heads, attention.head_dim, -1)
    value = value.repeat_interleave(attention.heads // attention.kv_heads, dim=0).flatten(0, 1)
    first, second = layer_scales(block)
    mixed = _weight(module.proj) @ _after(module.norm, value)
    written = _weight(mlp.out) @ _after(mlp.norm, mlp_slope(mlp))
    identity = torch.eye(len(mixed), dtype=mixed.dtype, device=mixed.device)
    attended = identity + _scaled(first, _before(block.norm1, mixed))
    return (identity + _scaled(second, _before(block.norm2, written))) @ attended


def mlp_slope(mlp: MlpParts) -> Tensor:
    """Least-squares slope without intercept of the neurons over standard normal inputs, hidden c in float64."""
    value, value_bias = _linear(mlp.value)
    if mlp.gate is None:
        return _expectations(mlp.act, value_bias, torch.linalg.vector_norm(value, dim=1))[1].unsqueeze(1) * value
    gate, gate_bias = _linear(mlp.gate)
    mean, slope, bend = _expectations(mlp.act, gate_bias, torch.linalg.vector_norm(gate, dim=1))
    by_gate = value_bias * slope + (gate * value).sum(1) * bend
    return by_gate.unsqueeze(1) * gate + mean.unsqueeze(1) * value


def _expectations(act: nn.Module, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """E f, E f' and E f'' of an activation at z ~ N(mean, deviation^2), each like `mean`."""
    if isinstance(act, nn.GELU | GELU) and getattr(act, "approximate", "none") == "none":
        q = 1 + deviation.square()
        r = mean / q.sqrt()
        density, below = (-r.square() / 2).exp() / math.sqrt(2 * math.pi), torch.special.ndtr(r)
        expected = mean * below + deviation.square() / q.sqrt() * density
        return (
            expected,
            below + mean * q**-1.5 * density,
            density * (q**-0.5 + q**-1.5 * (1 - r.square())),
        )
    # Converges faster than Gauss-Hermite where deviations are large: a gate is then nearly a step.
    nodes = torch.linspace(-REACH, REACH, NODES, dtype=mean.dtype, device=mean.device)
    weights = (-nodes.square() / 2).exp()
    _require_elementwise(act, nodes)
    deviation = deviation.clamp_min(LEAST_DEVIATION)
    values = act(mean.unsqueeze(1) + deviation.unsqueeze(1) * nodes) * (weights / weights.sum())
    # Stein again: derivatives of f are moments of f itself, so any activation will do.
    return values.sum(1), values @ nodes / deviation, values @ (nodes.square() - 1) / deviation.square()


def _require_elementwise(act: nn.Module, probe: Tensor) -> None:
    column = probe.unsqueeze(1)
    if any(True for _ in act.parameters()) or not torch.equal(act(column.clone()), act(column.T.clone()).T):
        raise NotApplicableError(
            f"activation {type(act).__name__} is not a fixed function of one number: it has no linear slope here",
            "use a backbone with GELU, SwiGLU or another such activation",
        )


def _linear(parts: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
    weight = parts[0].double()
    return weight, weight.new_zeros(len(weight)) if parts[1] is None else parts[1].double()


def _weight(linear: nn.Module) -> Tensor:
    assert isinstance(linear, nn.Linear)
    return linear.weight.double()


def _before(norm: nn.Module, weight: Tensor) -> Tensor:
    """weight diag(n) C: a linear map behind a norm that only centres and scales."""
    gain, centres = _norm(norm)
    weight = weight if gain is None else weight * gain
    return weight - weight.mean(1, keepdim=True) if centres else weight


def _after(norm: nn.Module, weight: Tensor) -> Tensor:
    """diag(n) C weight: the same norm behind a linear map."""
    gain, centres = _norm(norm)
    weight = weight - weight.mean(0, keepdim=True) if centres else weight
    return weight if gain is None else gain.unsqueeze(1) * weight


def _norm(norm: nn.Module) -> tuple[Tensor | None, bool]:
    """Scale of a norm (None: one) and whether it centres."""
    if isinstance(norm, nn.Identity):
        return None, False
    if not isinstance(norm, nn.LayerNorm | nn.RMSNorm | RmsNorm):
        raise NotApplicableError(f"norm {type(norm).__name__} has no singular directions here", "use another repair")
    gain = getattr(norm, "weight", None)
    return None if gain is None else gain.double(), isinstance(norm, nn.LayerNorm)


def _scaled(scale: Tensor | None, x: Tensor) -> Tensor:
    return x if scale is None else scale.double().unsqueeze(1) * x
