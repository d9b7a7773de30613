"""What every repair must keep, as checks anybody can run on a repair of their own (`vitbench check repair NAME`).

Synthetic tokens only: no images, weights or network; repairs that change the forward are run on two tiny random ViTs
(`edit_contract`). Each check raises ContractError with what was broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue.fields import GRID_FIELDS, acts_on, parse_field
from vitbench.catalogue.repairs import kinds, needs
from vitbench.catalogue.views import View
from vitbench.repairs.base import Repair, State
from vitbench.repairs.edit_contract import EDIT_CHECKS
from vitbench.repairs.edit_contract import images as pictures
from vitbench.repairs.promises import STRENGTHS, same_states, storable
from vitbench.repairs.synthetic_vit import BLOCKS, CHANNELS, PATCH_PX, loud_direction, synthetic_vit
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.promises import ContractError, Finding, findings, same
from vitbench.tokens.types import Tokens

FIELDS = ("patch", "patch_raw", "block_1", "query", "key", "value", "cls", "registers", "norms")
WHOLE = View("whole")


def synthetic_tokens(seed: int, n: int = 4, grid_hw: tuple[int, int] = (6, 6), pad: int = 0) -> Tokens:
    """Seeded tokens of every kind: a few of high norm, channels of unequal variance, `pad` columns of padding."""
    h, w = grid_hw
    generator = torch.Generator().manual_seed(seed)
    scale = torch.linspace(0.5, 3, CHANNELS)

    def grid() -> Tensor:
        return torch.randn(n, h, w, CHANNELS, generator=generator) * scale + 0.5

    made: dict[str, Tensor] = {name: grid() for name in FIELDS[:6]}
    loud = torch.rand(n, h, w, generator=generator) < 0.05
    loud[0, h // 2, w // 2] = True
    for name in made:
        made[name] = torch.where(loud.unsqueeze(-1), made[name] * 20, made[name])
    written = made["patch_raw"].norm(dim=-1, keepdim=True) * loud_direction()
    made["patch_raw"] = torch.where(loud.unsqueeze(-1), written, made["patch_raw"])
    made["cls"] = torch.randn(n, CHANNELS, generator=generator) - 4
    made["registers"] = torch.randn(n, 4, CHANNELS, generator=generator) + 9
    made["norms"] = made["patch_raw"].norm(dim=-1).unsqueeze(1).expand(n, BLOCKS, h, w).clone()
    view = h * PATCH_PX, w * PATCH_PX
    content = view[0], view[1] - pad * PATCH_PX
    placement = Placement(source_hw=content, view_hw=view, content_hw=content)
    keys = tuple(f"{seed}-{i}" for i in range(n))
    return Tokens(made, Geometry(PATCH_PX, grid_hw, (placement,) * n), keys)


@dataclass
class SyntheticContext:
    """A fit context over synthetic tokens, four images a batch."""

    field: str
    seed: int = 0
    batches: int = 5
    grid_hw: tuple[int, int] = (6, 6)
    pad: int = 0
    change: Callable[[Tokens], Tokens] = lambda tokens: tokens
    view: View = WHOLE

    def __post_init__(self) -> None:
        self.images = self.batches * 4

    def tokens(self) -> Iterator[Tokens]:
        for i in range(self.batches):
            yield self.change(synthetic_tokens(1000 + i, grid_hw=self.grid_hw, pad=self.pad))

    def backbone(self) -> Backbone:
        return synthetic_vit()

    def pixels(self, order: Iterable[int] | None = None) -> Iterator[Any]:
        for i in range(self.images) if order is None else order:
            yield from pictures(1000 + i, 1, (self.grid_hw[0] * PATCH_PX, (self.grid_hw[1] - self.pad) * PATCH_PX))

    def resumed(self) -> State:
        return {}

    def keep(self, state: State) -> None:
        """A check's fit is never interrupted."""


def fit_all(repair: Repair[Any], **context: Any) -> dict[str, State]:
    """States of every field the repair acts on, fitted on synthetic tokens."""
    acted = [name for name in FIELDS if acts_on(kinds(repair.card, repair.params), name)]
    if not repair.card.needs_fit:
        return {name: {} for name in acted}
    return {name: storable(repair.fit(SyntheticContext(name, **context)), repair.card.name) for name in acted}


def reads_only_what_the_card_names(repair: Repair[Any]) -> None:
    """Fitted and applied with the field alone and what the card `needs`, as a run does it; nothing else is given there."""
    for name in (f for f in FIELDS if acts_on(kinds(repair.card, repair.params), f)):
        given = dict.fromkeys((name, *needs(repair.card, repair.params)))

        def only(tokens: Tokens, given: Iterable[str] = given) -> Tokens:
            return replace(tokens, fields={f: tokens[f] for f in given})

        state = {}
        if repair.card.needs_fit:
            state[name] = storable(repair.fit(SyntheticContext(name, change=only)), repair.card.name)
        repair.map(only(synthetic_tokens(9)), state)


def batch_independence(repair: Repair[Any]) -> None:
    """A batch of four gives what four batches of one give."""
    states, tokens = fit_all(repair), synthetic_tokens(1)
    together = repair.map(tokens, states)
    for i in range(len(tokens)):
        alone = repair.map(tokens.select([i]), states)
        for name in FIELDS:
            same(together[name][i : i + 1], alone[name], f"{name} of a sample depends on its batch")


def patch_order_and_count(repair: Repair[Any]) -> None:
    """Grids keep their shape, samples their places, and fields that the card does not name their values."""
    states, tokens = fit_all(repair), synthetic_tokens(2)
    mapped = repair.map(tokens, states)
    if set(mapped.fields) != set(tokens.fields) or mapped.keys != tokens.keys or mapped.geometry != tokens.geometry:
        raise ContractError("fields, keys or geometry changed")
    for name in FIELDS:
        grid = tokens[name].ndim - 1
        if mapped[name].shape[:grid] != tokens[name].shape[:grid]:
            raise ContractError(f"{name}: {tuple(tokens[name].shape)} became {tuple(mapped[name].shape)}")
        if not acts_on(kinds(repair.card, repair.params), name):
            same(mapped[name], tokens[name], f"{name} changed, but the card does not name it", tolerance=0)
    order = [3, 1, 0]
    shuffled = repair.map(tokens.select(order), states)
    for name in FIELDS:
        same(shuffled[name], mapped[name][order], f"{name}: samples changed places")


def identity_at_zero_strength(repair: Repair[Any]) -> None:
    """Where a parameter is a strength (`m`, `k`, `strength`, ...), its zero leaves every field as it was."""
    params = repair.params
    zeros = (
        {f.name: 0 for f in fields(params) if f.name in STRENGTHS} if hasattr(params, "__dataclass_fields__") else {}
    )
    if not zeros:
        return
    neutral = type(repair)(replace(params, **zeros))
    tokens = synthetic_tokens(3)
    mapped = neutral.map(tokens, fit_all(neutral))
    for name in FIELDS:
        same(mapped[name], tokens[name], f"{name} changed at {zeros}")


def non_square_inputs(repair: Repair[Any]) -> None:
    """Fitted and applied on a 4 x 9 grid, one column of it padding."""
    states = fit_all(repair, grid_hw=(4, 9), pad=1)
    mapped = repair.map(synthetic_tokens(4, grid_hw=(4, 9), pad=1), states)
    for name, value in mapped.fields.items():
        if not bool(torch.isfinite(value).all()):
            raise ContractError(f"{name} is not finite on a non-square grid")


def padding_is_not_content(repair: Repair[Any]) -> None:
    """What stands in padding cells changes neither the state nor the cells that show the image."""

    def spoiled(tokens: Tokens) -> Tokens:
        mask = torch.from_numpy(~tokens.geometry.valid())
        changed = {
            k: torch.where(mask.unsqueeze(-1), x + 1000, x) if x.ndim == 4 and k != "norms" else x
            for k, x in tokens.fields.items()
        }
        changed["norms"] = torch.where(mask.unsqueeze(1), tokens["norms"] + 1000, tokens["norms"])
        return replace(tokens, fields=changed)

    clean, dirty = fit_all(repair, pad=2), fit_all(repair, pad=2, change=spoiled)
    same_states(clean, dirty, "padding changes the fit")
    tokens = synthetic_tokens(5, pad=2)
    valid = torch.from_numpy(tokens.geometry.valid())
    a, b = repair.map(tokens, clean), repair.map(spoiled(tokens), clean)
    for name in clean:
        if parse_field(name).kind in GRID_FIELDS:
            same(a[name][valid], b[name][valid], f"{name}: padding leaks into cells that show the image")


def prefix_tokens_are_separate(repair: Repair[Any]) -> None:
    """CLS and registers enter no statistic of patches, and patches none of CLS."""

    def loud(*names: str) -> Callable[[Tokens], Tokens]:
        return lambda tokens: replace(
            tokens, fields={k: x * 50 + 7 if k in names else x for k, x in tokens.fields.items()}
        )

    plain = fit_all(repair)
    for changed in (("cls",), ("registers",), FIELDS[:6]):
        states = fit_all(repair, change=loud(*changed))
        rest = {name: state for name, state in states.items() if name not in changed}
        same_states(
            {name: plain[name] for name in rest}, rest, f"the fit of other fields depends on {', '.join(changed)}"
        )


def fit_is_left_alone(repair: Repair[Any]) -> None:
    """Mapping test tokens changes neither the state nor the tokens it was given: only train tokens teach."""
    states, tokens = fit_all(repair), synthetic_tokens(6)
    kept = {name: {key: value.clone() for key, value in state.items()} for name, state in states.items()}
    before = {name: x.clone() for name, x in tokens.fields.items()}
    first = repair.map(tokens, states)
    same_states(kept, states, "mapping changes the state")
    for name in FIELDS:
        same(tokens[name], before[name], f"mapping writes into the {name} it was given", tolerance=0)
    again = repair.map(tokens, states)
    for name in FIELDS:
        same(first[name], again[name], f"{name} differs the second time", tolerance=0)


def fit_does_not_depend_on_what_is_only_applied(repair: Repair[Any]) -> None:
    """Parameters that the card calls `applied_only` leave the fit as it is, so that a sweep over them shares one."""
    fitted = fit_all(repair)
    for name in repair.card.applied_only:
        other = type(repair)(replace(repair.params, **{name: 1}))
        same_states(
            fitted, fit_all(other), f"the fit depends on {name}, which the card calls applied_only", tolerance=0
        )


def fit_does_not_depend_on_the_seed(repair: Repair[Any]) -> None:
    """Two seeds give one state, unless the card says `stochastic`: what is not, is fitted once for all seeds."""
    if not repair.card.stochastic:
        same_states(
            fit_all(repair), fit_all(repair, seed=1), "the fit depends on the seed, but the card is not stochastic"
        )


def state_round_trip(repair: Repair[Any]) -> None:
    """A state written to safetensors and read back gives another process the same tokens, bit for bit."""
    afresh = deepcopy(repair)
    states, tokens = fit_all(repair), synthetic_tokens(7)
    back = {name: load(save(dict(state))) if state else {} for name, state in states.items()}
    a, b = repair.map(tokens, states), afresh.map(tokens, back)
    for name in FIELDS:
        same(a[name], b[name], f"{name} differs after the state was stored", tolerance=0)


def determinism(repair: Repair[Any]) -> None:
    """Two fits and maps give the same bits, whatever the global random state."""
    torch.manual_seed(0)
    first = fit_all(repair)
    one = repair.map(synthetic_tokens(8), first)
    torch.manual_seed(1)
    second = fit_all(repair)
    two = repair.map(synthetic_tokens(8), second)
    same_states(first, second, "two fits differ", tolerance=0)
    for name in FIELDS:
        same(one[name], two[name], f"{name} of two runs differs", tolerance=0)


CHECKS: Mapping[str, Callable[[Repair[Any]], None]] = {
    check.__name__: check
    for check in (
        reads_only_what_the_card_names,
        batch_independence,
        patch_order_and_count,
        identity_at_zero_strength,
        non_square_inputs,
        padding_is_not_content,
        prefix_tokens_are_separate,
        fit_is_left_alone,
        fit_does_not_depend_on_what_is_only_applied,
        fit_does_not_depend_on_the_seed,
        state_round_trip,
        determinism,
    )
}


def checks_for(repair: Repair[Any]) -> Mapping[str, Callable[[Repair[Any]], None]]:
    """The checks that a repair is held to: by name, of tokens alone or of a whole forward."""
    return EDIT_CHECKS if repair.card.edits else CHECKS


def run_checks(repair: Repair[Any]) -> list[Finding]:
    """Every check on one repair. Whatever it raises is a finding too; one that is made for no backbone here is refused."""
    return findings(checks_for(repair), lambda: deepcopy(repair))
