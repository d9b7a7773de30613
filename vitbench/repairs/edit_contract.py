"""What a repair that changes the forward must keep, checked on two tiny random ViTs of different kinds.

One is a plain ViT (learned positions, CLS, plain MLP), one an EVA (RoPE, CLS and registers, SwiGLU). In both, one neuron
writes a long vector into a few tokens, so that repairs of outliers have something to find. No data, weights or network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitbench.backbones.adapters import mlp_parts
from vitbench.backbones.base import Backbone
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT, card_of
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.fields import acts_on
from vitbench.catalogue.repairs import kinds, needs
from vitbench.catalogue.views import View
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import Repair, State
from vitbench.repairs.promises import STRENGTHS, edited, same_states, storable
from vitbench.tokens.promises import ContractError, same
from vitbench.tokens.types import TokenRequest, Tokens
from vitbench.tokens.views import Pixels

FIELDS = ("patch", "patch_raw", "block_1", "query", "key", "value", "cls", "registers", "norms", "cls_attention")
PATCH_PX, DIM, DEPTH, HEADS, FIT_IMAGES = 8, 32, 3, 2, 16
SQUARE, WIDE = (48, 48), (30, 70)
WHOLE = View("whole")
TOLERANCE = 1e-4  # fused and unfused attention add in another order
SLOPE, SHARE, LENGTH = (
    8.0,
    0.03,
    4.0,
)  # of the planted neuron: per deviation, of the patches it fires on, of what it writes


def tiny_backbones() -> dict[str, ViT]:
    """Fresh views on the two random ViTs, by name."""
    return {name: ViT(module, card_of(module, _card(name)), "0" * 16) for name, module in _modules().items()}


def _card(name: str) -> BackboneCard:
    return BackboneCard(name, None, "contract", "module", 0, 0, 0, 0, 0)


@cache
def _modules() -> dict[str, nn.Module]:
    sizes = {"img_size": SQUARE, "patch_size": PATCH_PX, "embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS}
    plain = VisionTransformer(**sizes, num_classes=0, mlp_ratio=2.0, dynamic_img_size=True)
    rotary = Eva(
        **sizes, num_classes=0, mlp_ratio=2.0, swiglu_mlp=True, use_rot_pos_emb=True, use_abs_pos_emb=False,
        num_reg_tokens=2, dynamic_img_size=True, global_pool="token",
    )  # fmt: skip
    modules: dict[str, nn.Module] = {"tiny ViT": plain, "tiny EVA with registers": rotary}
    for seed, (name, module) in enumerate(modules.items()):
        _randomise(module.eval().requires_grad_(False), seed)
        _plant(ViT(module, card_of(module, _card(name))), seed)
    return modules


def _randomise(module: nn.Module, seed: int) -> None:
    """Weights that all matter: no norm, bias or layer scale is trivial."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in module.state_dict().items():
        if value.is_floating_point() and "rope" not in name:
            noise = torch.randn(value.shape, generator=generator)
            one = "norm" in name and name.endswith("weight")
            small = 0.2 if value.ndim < 2 else 1 / math.sqrt(value[0].numel())
            value.copy_(1 + 0.1 * noise if one else noise * small)


class _Watch(Edit):
    """Keeps the MLP input n c of the second block, patches only."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def normed(self, i: int, x: Tensor, context: EditContext) -> Tensor:
        if i == 1:
            self.seen.append(x[:, context.patch_slice].flatten(0, 1))
        return x


def _plant(view: ViT, seed: int) -> None:
    """A neuron in the second block that fires on few patches and writes far."""
    generator, watch = torch.Generator().manual_seed(seed), _Watch()
    view.edited(watch).tokens(images(seed, FIT_IMAGES), TokenRequest(("patch",)), [str(i) for i in range(FIT_IMAGES)])
    direction = torch.randn(DIM, generator=generator)
    levels = torch.cat(watch.seen) @ direction
    direction, cut = SLOPE * direction / levels.std(), SLOPE * levels.quantile(1 - SHARE) / levels.std()
    parts = mlp_parts(view.blocks[1])
    row, threshold = parts.gate or parts.value
    assert threshold is not None
    row[0], threshold[0] = direction, -cut
    if parts.gate is not None and parts.value[1] is not None:
        parts.value[0][0], parts.value[1][0] = 0, 1
    written = torch.randn(DIM, generator=generator)
    parts.out.weight[:, 0] = LENGTH * written


def images(seed: int, n: int = 4, hw: tuple[int, int] = SQUARE) -> list[Pixels]:
    """Seeded pictures (uint8 h w 3): noise over blocks of colour."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (n, -(-hw[0] // PATCH_PX), -(-hw[1] // PATCH_PX), 3))
    blocks = coarse.repeat(PATCH_PX, axis=1).repeat(PATCH_PX, axis=2)[:, : hw[0], : hw[1]]
    noise = random.integers(-60, 61, (n, *hw, 3))
    return list(np.clip(blocks + noise, 0, 255).astype(np.uint8))


@dataclass
class ImageContext:
    """A fit context over a tiny backbone and seeded pictures."""

    field: str
    model: ViT
    needs: tuple[str, ...] = ()
    seed: int = 0
    images: int = FIT_IMAGES
    hw: tuple[int, int] = SQUARE
    view: View = WHOLE

    def tokens(self) -> Iterator[Tokens]:
        request = TokenRequest(tuple(dict.fromkeys((self.field, *self.needs))), self.view)
        for start in range(0, self.images, 4):
            keys = [f"train-{start + i}" for i in range(4)]
            yield self.model.tokens(images(1000 + start, hw=self.hw), request, keys)

    def backbone(self) -> Backbone:
        return self.model

    def pixels(self, order: Iterable[int] | None = None) -> Iterator[Any]:
        for i in range(self.images) if order is None else order:
            yield images(1000 + i // 4 * 4, hw=self.hw)[i % 4]

    def resumed(self) -> State:
        return {}

    def keep(self, state: State) -> None:
        """A check's fit is never interrupted."""


@dataclass(frozen=True)
class Repaired:
    """A repair at work on one tiny backbone: the edited view, and states of what it does after the forward."""

    repair: Repair[Any]
    plain: ViT
    states: Mapping[str, State]

    @staticmethod
    def of(repair: Repair[Any], plain: ViT, hw: tuple[int, int] = SQUARE, seed: int = 0) -> Repaired:
        """Fitted on seeded pictures where the card says so; an edit has one state, a map one per field."""
        card = repair.card
        if not card.needs_fit:
            return Repaired(repair, plain, {})
        state = storable(repair.fit(ImageContext("patch", plain, needs(card, repair.params), seed, hw=hw)), card.name)
        return Repaired(repair, plain, {"patch": state})

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(f for f in FIELDS if f != "registers" or self.plain.card.registers)

    def tokens(self, seed: int, which: slice = slice(None), hw: tuple[int, int] = SQUARE) -> Tokens:
        """Repaired tokens of (some of) the four pictures of a seed."""
        repaired = edited(self.repair, self.plain, self.states.get("patch", {}))
        return self.repair.map(_tokens(repaired, self.fields, seed, which, hw), self.states)

    def unrepaired(self, seed: int) -> Tokens:
        return _tokens(self.plain, self.fields, seed)


def _tokens(
    backbone: Backbone, names: tuple[str, ...], seed: int, which: slice = slice(None), hw: tuple[int, int] = SQUARE
) -> Tokens:
    keys = [f"{seed}-{i}" for i in range(4)]
    return backbone.tokens(images(seed, hw=hw)[which], TokenRequest(names), keys[which])


def _each(repair: Repair[Any], hw: tuple[int, int] = SQUARE) -> Iterator[Repaired]:
    """The repair on every tiny backbone it is made for; its own refusal where it is made for none."""
    refusals, count = [], 0
    for plain in tiny_backbones().values():
        try:
            repaired = Repaired.of(repair, plain, hw)
            repaired.tokens(0, hw=hw)
        except NotApplicableError as error:
            refusals.append(error)
        else:
            count += 1
            yield repaired
    if not count:
        raise refusals[0]


def batch_independence(repair: Repair[Any]) -> None:
    """A batch of four gives what four batches of one give."""
    for repaired in _each(repair):
        together = repaired.tokens(1)
        for i in range(len(together)):
            alone = repaired.tokens(1, slice(i, i + 1))
            for name in repaired.fields:
                _same(together[name][i : i + 1], alone[name], f"{name} of a sample depends on its batch", repaired)


def patch_order_and_count(repair: Repair[Any]) -> None:
    """Grids keep their shape, samples their places, and fields that the card does not name their values."""
    for repaired in _each(repair):
        before, after = repaired.unrepaired(2), repaired.tokens(2)
        if after.keys != before.keys or after.geometry != before.geometry:
            raise ContractError("keys or geometry changed")
        for name in repaired.fields:
            axes = before[name].ndim - 1
            if after[name].shape[:axes] != before[name].shape[:axes]:
                raise ContractError(f"{name}: {tuple(before[name].shape)} became {tuple(after[name].shape)}")
            if not acts_on((*kinds(repair.card, repair.params), "norms"), name):
                _same(after[name], before[name], f"{name} changed, but the card does not name it", repaired)
        backwards = repaired.tokens(2, slice(None, None, -1))
        for name in repaired.fields:
            _same(backwards[name].flip(0), after[name], f"{name}: samples changed places", repaired)


def identity_at_zero_strength(repair: Repair[Any]) -> None:
    """Where a parameter is a strength (`strength`, `top_k`, `blocks`, ...), its zero leaves every field as it was."""
    params = repair.params
    zeros = {f.name: 0 for f in fields(params) if f.name in STRENGTHS} if is_dataclass(params) else {}
    if not zeros:
        return
    for repaired in _each(type(repair)(replace(params, **zeros))):
        before, after = repaired.unrepaired(3), repaired.tokens(3)
        for name in repaired.fields:
            _same(after[name], before[name], f"{name} changed at {zeros}", repaired)


def non_square_inputs(repair: Repair[Any]) -> None:
    """Fitted and applied on a 4 x 9 grid, its last row and column padded."""
    for repaired in _each(repair, WIDE):
        tokens = repaired.tokens(4, hw=WIDE)
        if tokens["patch"].shape[1:3] != (4, 9):
            raise ContractError(f"a 4 x 9 grid became {tuple(tokens['patch'].shape[1:3])}")
        for name, value in tokens.fields.items():
            if not bool(torch.isfinite(value).all()):
                raise ContractError(f"{name} is not finite on a non-square grid")


def prefix_tokens_are_separate(repair: Repair[Any]) -> None:
    """CLS and registers are as many as before, and neither they nor added tokens stand among the patches."""
    for repaired in _each(repair):
        before, after = repaired.unrepaired(5), repaired.tokens(5)
        prefix = [after["cls"].unsqueeze(1)]
        if "registers" in after:
            prefix.append(after["registers"])
            if after["registers"].shape[1] != before["registers"].shape[1]:
                raise ContractError(f"registers: {before['registers'].shape[1]} became {after['registers'].shape[1]}")
        patches = after["patch"].flatten(1, 2)
        if patches.shape[-1] != prefix[0].shape[-1]:
            continue
        if bool((torch.cdist(patches, torch.cat(prefix, dim=1)) == 0).any()):
            raise ContractError("CLS or a register stands among the patches")


def backbone_is_left_alone(repair: Repair[Any]) -> None:
    """Neither the module's weights nor what the given backbone computes change when a repaired one is made and run."""
    for repaired in _each(repair):
        module = repaired.plain.module
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        before = repaired.unrepaired(6)
        repaired.tokens(6)
        after = repaired.unrepaired(6)
        for name, value in module.state_dict().items():
            _same(value, weights[name], f"weight {name} changed", repaired, tolerance=0)
        for name in repaired.fields:
            _same(before[name], after[name], f"{name} of the unrepaired backbone changed", repaired, tolerance=0)


def state_round_trip(repair: Repair[Any]) -> None:
    """A state written to safetensors and read back gives another process the same tokens, bit for bit."""
    afresh = deepcopy(repair)
    for repaired in _each(repair):
        back = {name: load(save(dict(state))) if state else {} for name, state in repaired.states.items()}
        a, b = repaired.tokens(7), replace(repaired, repair=afresh, states=back).tokens(7)
        for name in repaired.fields:
            _same(a[name], b[name], f"{name} differs after the state was stored", repaired, tolerance=0)


def determinism(repair: Repair[Any]) -> None:
    """Two fits and forwards give the same bits, whatever the global random state."""
    torch.manual_seed(0)
    first = [(r, r.tokens(8)) for r in _each(repair)]
    torch.manual_seed(1)
    second = [(r, r.tokens(8)) for r in _each(repair)]
    for (a, one), (b, two) in zip(first, second, strict=True):
        same_states(a.states, b.states, "two fits differ", tolerance=0)
        for name in a.fields:
            _same(one[name], two[name], f"{name} of two runs differs", a, tolerance=0)


def fit_does_not_depend_on_the_seed(repair: Repair[Any]) -> None:
    """Two seeds give one state, unless the card says `stochastic`: what is not, is fitted once for all seeds."""
    if repair.card.stochastic or not repair.card.needs_fit:
        return
    for repaired in _each(repair):
        other = Repaired.of(repair, repaired.plain, seed=1)
        same_states(
            repaired.states, other.states, "the fit depends on the seed, but the card is not stochastic", TOLERANCE
        )


EDIT_CHECKS: Mapping[str, Callable[[Repair[Any]], None]] = {
    check.__name__: check
    for check in (
        batch_independence,
        patch_order_and_count,
        identity_at_zero_strength,
        non_square_inputs,
        prefix_tokens_are_separate,
        backbone_is_left_alone,
        fit_does_not_depend_on_the_seed,
        state_round_trip,
        determinism,
    )
}


def _same(a: Tensor, b: Tensor, problem: str, repaired: Repaired, tolerance: float = TOLERANCE) -> None:
    same(a, b, f"{problem} ({repaired.plain.card.name})", tolerance)
