"""One small adapter per shape of attention, MLP and layer scale, so that nobody tests the names of families.

Attention: packed `qkv` (plain ViT; EVA with a bias kept apart) or `q_proj`, `k_proj`, `v_proj`; with or without RoPE.
MLP: plain, gated with packed weights (`fc1` = gate and value), gated with separate weights (`fc1_g`, `fc1_x`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.layers import AttentionRope, GluMlp, Mlp, SwiGLU
from timm.models.eva import EvaAttention
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from vitbench.errors import NotApplicableError

Projection = Literal["query", "key", "value"]
PROJECTIONS: tuple[Projection, ...] = ("query", "key", "value")


@dataclass(frozen=True)
class AttentionParts:
    """What is inside a block's attention. Projections are b n c with heads joined, before qk-norm, RoPE and scaling.

    `kv_heads` is smaller than `heads` with grouped queries; RoPE leaves the first `unrotated` tokens alone.
    """

    module: nn.Module
    heads: int
    kv_heads: int
    head_dim: int
    unrotated: int
    rotate_half: bool

    @property
    def scale(self) -> float:
        return float(self.head_dim**-0.5)

    def rows(self, which: Projection) -> slice:
        """Rows of the packed projection that give `which`."""
        width = self.heads * self.head_dim
        start = PROJECTIONS.index(which) * width
        return slice(start, start + width)

    def source(self, which: Projection) -> tuple[nn.Module, slice] | None:
        """The module whose output holds `which`, and where in it; None where the block bypasses its own module.

        EVA with q and v biases adds them outside its `qkv` module, whose output is then not the projection.
        """
        packed = getattr(self.module, "qkv", None)
        if packed is None:
            return getattr(self.module, f"{which[0]}_proj"), slice(None)
        return None if getattr(self.module, "q_bias", None) is not None else (packed, self.rows(which))

    def weight(self, which: Projection) -> tuple[Tensor, Tensor | None]:
        """Weight (c_out c_in) and bias of one projection, as views on the parameters."""
        packed = getattr(self.module, "qkv", None)
        if packed is None:
            linear = getattr(self.module, f"{which[0]}_proj")
            return linear.weight, linear.bias
        rows = self.rows(which)
        if getattr(self.module, "q_bias", None) is not None:
            return packed.weight[rows], getattr(self.module, f"{which[0]}_bias")
        return packed.weight[rows], None if packed.bias is None else packed.bias[rows]

    def project(self, x: Tensor, which: Projection) -> Tensor:
        """Input of the attention (b n c, after the block's first norm) -> one projection (b n c)."""
        return nn.functional.linear(x, *self.weight(which))

    def rotated(self, x: Tensor, rope: Tensor | None) -> Tensor:
        """b a n d with RoPE applied to all but the first `unrotated` tokens; rope: n' 2d or a n' 2d (sine, cosine)."""
        if rope is None:
            return x
        sin, cos = rope.chunk(2, dim=-1)
        kept, turned = x[:, :, : self.unrotated], x[:, :, self.unrotated :]
        if self.rotate_half:
            first, second = turned.chunk(2, dim=-1)
            quarter = torch.cat((-second, first), dim=-1)
        else:
            quarter = torch.stack((-turned[..., 1::2], turned[..., ::2]), dim=-1).flatten(-2)
        return torch.cat((kept, (turned * cos + quarter * sin).to(x.dtype)), dim=2)

    def heads_of(self, x: Tensor) -> Tensor:
        """b n (a d) -> b a n d."""
        return x.reshape(*x.shape[:2], x.shape[-1] // self.head_dim, self.head_dim).transpose(1, 2)

    def logits(self, x: Tensor, rope: Tensor | None, queries: int | None = None) -> Tensor:
        """Scaled attention logits b a q n from the attention's input, for all queries or the first few."""
        last = x.shape[1] if queries is None else queries
        turned = rope if rope is None or last <= self.unrotated else rope[..., : last - self.unrotated, :]
        q = self.compared(x[:, :last], None if last <= self.unrotated else turned, "query")
        k = self.compared(x, rope, "key")
        logits: Tensor = (q.to(k.dtype) * self.scale) @ k.transpose(-2, -1)
        return logits

    def compared(self, x: Tensor, rope: Tensor | None, which: Literal["query", "key"]) -> Tensor:
        """Queries or keys b a n d as attention compares them: after qk-norm and RoPE, one per head of the queries."""
        module: Any = self.module
        norm = module.q_norm if which == "query" else module.k_norm
        heads = self.rotated(norm(self.heads_of(self.project(x, which))), rope)
        return heads.repeat_interleave(self.heads // heads.shape[1], dim=1)

    def output(self, x: Tensor, weights: Tensor) -> Tensor:
        """The attention's output b n c for given weights b a n n: the unfused path, gate and inner norm included."""
        module: Any = self.module
        v = self.heads_of(self.project(x, "value")).repeat_interleave(self.heads // self.kv_heads, dim=1)
        mixed = module.norm((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))
        if getattr(module, "gate", None) is not None:
            mixed = mixed * module.gate(x).sigmoid()
        out: Tensor = module.proj(mixed)
        return out


def attention_parts(block: nn.Module) -> AttentionParts:
    """The adapter of a block's attention. Raises NotApplicableError for a kind of attention nobody has described."""
    attention = getattr(block, "attn", block)  # blocks of parallel branches have several
    if not isinstance(attention, Attention | AttentionRope | EvaAttention):
        raise NotApplicableError(
            f"no adapter for attention of class {type(attention).__name__}", "ask for other fields"
        )
    return AttentionParts(
        module=attention,
        heads=attention.num_heads,
        kv_heads=getattr(attention, "num_kv_heads", attention.num_heads),
        head_dim=attention.head_dim,
        unrotated=getattr(attention, "num_prefix_tokens", 0),
        rotate_half=bool(getattr(attention, "rotate_half", False)),
    )


@dataclass(frozen=True)
class MlpParts:
    """What is inside a block's MLP. A neuron is one channel of the input of `out`: after act, gate and inner norm.

    value, gate: (weight hidden c, bias) as views on the parameters; gate is None for a plain MLP, whose `value` alone
    goes through `act`. `out.weight[:, i]` is what neuron i writes.
    """

    module: nn.Module
    value: tuple[Tensor, Tensor | None]
    gate: tuple[Tensor, Tensor | None] | None
    act: nn.Module
    norm: nn.Module
    out: nn.Linear

    def hidden(self, x: Tensor) -> Tensor:
        """Input of the MLP (b n c) -> activations of its neurons (b n hidden)."""
        value = nn.functional.linear(x, *self.value)
        raised = self.act(value) if self.gate is None else self.act(nn.functional.linear(x, *self.gate)) * value
        normed: Tensor = self.norm(raised)
        return normed


def mlp_parts(block: nn.Module) -> MlpParts:
    """The adapter of a block's MLP. Raises NotApplicableError for a kind of MLP nobody has described."""
    mlp = getattr(block, "mlp", block)
    gate: tuple[Tensor, Tensor | None] | None
    if isinstance(mlp, SwiGLU):
        value, gate = (mlp.fc1_x.weight, mlp.fc1_x.bias), (mlp.fc1_g.weight, mlp.fc1_g.bias)
    elif isinstance(mlp, GluMlp):
        halves = mlp.fc1.weight.chunk(2), (None, None) if mlp.fc1.bias is None else mlp.fc1.bias.chunk(2)
        first, second = ((halves[0][i], halves[1][i]) for i in (0, 1))
        value, gate = (first, second) if mlp.gate_last else (second, first)
    elif isinstance(mlp, Mlp):
        value, gate = (mlp.fc1.weight, mlp.fc1.bias), None
    else:
        raise NotApplicableError(
            f"no adapter for an MLP of class {type(mlp).__name__}", "use a backbone of another family"
        )
    return MlpParts(mlp, value, gate, mlp.act, mlp.norm, mlp.fc2)


def layer_scales(block: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Layer scale of the attention and of the MLP branch (c each), None where there is none; two names exist."""
    found = []
    for i in (1, 2):
        scale = getattr(getattr(block, f"ls{i}", None), "gamma", None)
        found.append(scale if scale is not None else getattr(block, f"gamma_{i}", None))
    return found[0], found[1]
