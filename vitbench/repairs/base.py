"""The contract of a repair: fit on train tokens, edit the backbone, map tokens; most override one of the three."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue.cards import RepairCard
from vitbench.catalogue.fields import acts_on
from vitbench.catalogue.repairs import kinds
from vitbench.catalogue.views import View
from vitbench.tokens.types import Tokens

P = TypeVar("P")
State = Mapping[str, Tensor]


class FitContext(Protocol):
    """What a repair may learn from: train tokens that are already cached, or the backbone and the images themselves."""

    field: str  # the field being fitted
    seed: int
    images: int  # how many train images there are
    view: View  # how the tokens saw the images

    def tokens(self) -> Iterator[Tokens]:
        """Batches of train tokens with `field` and the card's `needs`; may be iterated again. On the fit device, float32."""
        ...

    def backbone(self) -> Backbone:
        """The backbone as the repairs before this one leave it, loaded at first use."""
        ...

    def pixels(self, order: Iterable[int] | None = None) -> Iterator[Any]:
        """Decoded train images (uint8 h w 3): all of them in the order of `tokens`, or those at given places."""
        ...

    def resumed(self) -> State:
        """What an interrupted fit of the same identity kept last; empty where none did."""
        ...

    def keep(self, state: State) -> None:
        """Keep what a long fit has come to, so that an interrupted one goes on from there."""
        ...


class Repair(Generic[P]):
    """Base of all repairs. `params` is the card's frozen dataclass, with what the user put in brackets.

    Override `fit` (returns tensors only; called once per field), `edit` (another forward), or `map_field` (token map).
    State is per field: `states[field]` is what `fit` returned for it.
    """

    card: ClassVar[RepairCard]

    def __init__(self, params: P) -> None:
        self.params = params

    def fit(self, context: FitContext) -> State:
        """Learn a state for `context.field`; only where the card says `needs_fit`."""
        return {}

    def extra_parameters(self, state: State) -> int:
        """Numbers that a repaired model carries beyond the backbone's own: by default all of a state."""
        return sum(value.numel() for value in state.values())

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        """The backbone with its forward changed; default: unchanged."""
        return backbone

    def map(self, tokens: Tokens, states: Mapping[str, State]) -> Tokens:
        """Apply `map_field` to every field it acts on; where it needs a fit, to those it was fitted for."""
        mapped = tokens
        for name, x in tokens.fields.items():
            fitted = name in states or not self.card.needs_fit
            if fitted and acts_on(kinds(self.card, self.params), name):
                mapped = mapped.with_field(name, self.map_field(x, states.get(name, {}), tokens, name))
        return mapped

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        """x: b h w c (or b c for `cls`), float32 -> the same with other values (channels may be fewer). Default: x itself.

        `tokens` holds what else the card `needs`, as it was before this repair; nothing may depend on the other samples
        of the batch.
        """
        return x
