"""The contract of a repair: fit on train tokens, edit the backbone, map tokens; most override one of the three."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, NoReturn, Protocol, TypeVar

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue.cards import RepairCard
from vitbench.catalogue.fields import acts_on
from vitbench.catalogue.repairs import kinds
from vitbench.catalogue.views import View
from vitbench.errors import RepairError
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
        """Apply `map_field` to every field it acts on; where it needs a fit, to those it was fitted for.

        Sealed: write `map_field`. Raises RepairError where that gives something else than tokens of the same grid.
        """
        mapped = tokens
        for name, x in tokens.fields.items():
            fitted = name in states or not self.card.needs_fit
            if fitted and acts_on(kinds(self.card, self.params), name):
                before = 0 if x.is_inference() else x._version
                value = self.map_field(x, states.get(name, {}), tokens, name)
                if not x.is_inference() and x._version != before:
                    self._broken("map_field writes into the tokens it is given", "return new ones: x.clone() first")
                mapped = mapped.with_field(name, self._checked(value, x, name))
        return mapped

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        """x: b h w c (or b c for `cls`), float32 -> the same with other values (channels may be fewer). Default: x itself.

        `tokens` holds what else the card `needs`, as it was before this repair; nothing may depend on the other samples
        of the batch.
        """
        return x

    def _checked(self, value: Any, x: Tensor, name: str) -> Tensor:
        """What `map_field` made of a field x. A NaN would become a number of some task, and another grid other labels."""
        if not isinstance(value, Tensor):
            self._broken(f"map_field gave a {type(value).__name__} for {name!r}", "return a tensor like x")
        if value.shape[:-1] != x.shape[:-1] or not value.shape[-1]:
            self._broken(
                f"map_field made {tuple(value.shape)} of {name!r}, which is {tuple(x.shape)}",
                "only the number of channels may change, and one must stay",
            )
        if value.dtype != x.dtype or value.device != x.device:
            self._broken(
                f"map_field made {value.dtype} on {value.device} of {name!r}, which is {x.dtype} on {x.device}",
                "return .to(x)",
            )
        # NaN and infinity survive a sum, which reads the field once and writes nothing.
        if not bool(value.sum(dtype=torch.float32).isfinite()):
            lost = int((~value.isfinite()).any(-1).sum())
            self._broken(
                f"{lost} of {value[..., 0].numel()} tokens of {name!r} are not finite after map_field",
                "look for divisions by zero",
            )
        return value

    def _broken(self, what: str, remedy: str) -> NoReturn:
        raise RepairError(f"repair {self.card.name!r}: {what}", remedy)
