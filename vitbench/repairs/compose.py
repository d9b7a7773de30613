"""Repairs from their names: one, or a chain `a+b` in which b is fitted on what a gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from vitbench.backbones.base import Backbone
from vitbench.catalogue import REPAIRS
from vitbench.catalogue.cards import RepairCard
from vitbench.catalogue.fields import acts_on
from vitbench.catalogue.repairs import kinds, needs
from vitbench.catalogue.resolve import require_order
from vitbench.errors import UsageError
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.selection import Term, parse_chain, with_params
from vitbench.tokens.types import Tokens


def build_repair(text: str) -> Repair[Any]:
    """The repair of a name as it is written: `center`, `remove_high_variance[m=50]+unit`."""
    return build(parse_chain(text))


def build(chain: tuple[Term, ...]) -> Repair[Any]:
    """The repair of a parsed name: `(center,)`, `(center, unit)`. Raises UsageError for what is unknown in it."""
    if not chain:
        raise UsageError("empty repair", "use `none` for tokens as they are")
    built = tuple(_single(term) for term in chain)
    return built[0] if len(built) == 1 else Chain(built, "+".join(map(str, chain)))


def _single(term: Term) -> Repair[Any]:
    card = REPAIRS.get(term.name)
    made = REPAIRS.load(term.name)(with_params(card.params, term, "repair"))
    return cast("Repair[Any]", made)


@dataclass(frozen=True)
class ChainParams:
    """The parts' own parameters, in order."""

    parts: tuple[Any, ...]


class Chain(Repair[ChainParams]):
    """Repairs one after another. The state of part i is kept under names that start with `i.`."""

    def __init__(self, parts: tuple[Repair[Any], ...], name: str) -> None:
        super().__init__(ChainParams(tuple(part.params for part in parts)))
        self.parts = parts
        self.card = _chain_card(parts, name)  # type: ignore[misc]  # a chain's card is its own, not its class's

    def fit(self, context: FitContext) -> State:
        """Each part on tokens mapped by those before it."""
        states: list[State] = []
        for i, part in enumerate(self.parts):
            fits = part.card.needs_fit and acts_on(kinds(part.card, part.params), context.field)
            states.append(part.fit(_Mapped(context, self.parts[:i], tuple(states))) if fits else {})
        return {f"{i}.{key}": value for i, state in enumerate(states) for key, value in state.items()}

    def extra_parameters(self, state: State) -> int:
        return sum(part.extra_parameters(_part_state(state, i)) for i, part in enumerate(self.parts))

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        for i, part in enumerate(self.parts):
            backbone = part.edit(backbone, _part_state(state, i))
        return backbone

    def map(self, tokens: Tokens, states: Mapping[str, State]) -> Tokens:
        for i, part in enumerate(self.parts):
            tokens = part.map(tokens, {name: _part_state(state, i) for name, state in states.items()})
        return tokens


class _Mapped:
    """A fit context whose tokens went through the first parts of a chain."""

    def __init__(self, inner: FitContext, parts: tuple[Repair[Any], ...], states: tuple[State, ...]) -> None:
        self.inner, self.parts, self.states = inner, parts, states
        self.field, self.seed, self.images, self.view = inner.field, inner.seed, inner.images, inner.view

    def tokens(self) -> Iterator[Tokens]:
        for tokens in self.inner.tokens():
            # Other fields have no states here; what the cards need is read as the backbone gave it.
            wanted = (self.field, *_needs(self.parts))
            only = replace(tokens, fields={name: x for name, x in tokens.fields.items() if name in wanted})
            for part, state in zip(self.parts, self.states, strict=True):
                only = part.map(only, {self.field: state})
            yield replace(tokens, fields={**tokens.fields, self.field: only[self.field]})

    def backbone(self) -> Backbone:
        backbone = self.inner.backbone()
        for part, state in zip(self.parts, self.states, strict=True):
            backbone = part.edit(backbone, state)
        return backbone

    def pixels(self, order: Iterable[int] | None = None) -> Iterator[Any]:
        return self.inner.pixels(order)

    def resumed(self) -> State:
        return self.inner.resumed()

    def keep(self, state: State) -> None:
        self.inner.keep(state)


def _part_state(state: State, i: int) -> State:
    prefix = f"{i}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _needs(parts: tuple[Repair[Any], ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for part in parts for name in needs(part.card, part.params)))


def _chain_card(parts: tuple[Repair[Any], ...], name: str) -> RepairCard:
    cards = [part.card for part in parts]
    require_order(cards, name)
    sources = [card.source for card in cards if card.source is not None]
    return RepairCard(
        name=name,
        entry="vitbench.repairs.compose:Chain",
        params=ChainParams(tuple(part.params for part in parts)),
        family=cards[0].family if cards[0].family != "none" else cards[-1].family,
        acts_on=tuple(dict.fromkeys(kind for part in parts for kind in kinds(part.card, part.params))),
        summary="; then ".join(card.summary for card in cards),
        needs=_needs(parts),
        needs_fit=any(card.needs_fit for card in cards),
        edits=any(card.edits for card in cards),
        stochastic=any(card.stochastic for card in cards),
        swaps=next((card.swaps for card in cards if card.swaps), ""),
        role="control" if all(card.role == "control" for card in cards) else "repair",
        source=sources[0] if sources else None,
        upstream_licence="; ".join(dict.fromkeys(card.upstream_licence for card in cards if card.upstream_licence)),
        differs="; ".join(dict.fromkeys(card.differs for card in cards if card.differs)),
        cost="; ".join(dict.fromkeys(card.cost for card in cards if card.cost)),
    )
