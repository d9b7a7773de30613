"""One generic registry: lazy entries, base-class checks, near-name suggestions, and where an entry came from.

A card is plain data with a `name` and an `entry` ("package.module:attribute"); the code behind it is imported only by
`load`, so that listing and planning never import torch.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Generic, Protocol, TypeVar

from vitbench.errors import UsageError, in_a_line


class Card(Protocol):
    """What the registry needs to know of a card."""

    @property
    def name(self) -> str: ...

    @property
    def entry(self) -> Any: ...


C = TypeVar("C", bound=Card)


class Registry(Generic[C]):
    """Cards of one kind by name. `kind` is the word used in messages; `group` names the entry points read at first use.

    require: called with (kind, card, class or function, origin) of what a package brings; raises UsageError where they do not fit.
    """

    def __init__(
        self, kind: str, builtin: Iterable[C], base: str | None = None, require: Callable[..., None] | None = None
    ) -> None:
        self.kind = kind
        self.group = f"vitbench.{kind}s"
        self._base, self._require = base, require
        self._cards: dict[str, C] = {}
        self._origin: dict[str, str] = {}
        self._entry_points_read = False
        for card in builtin:
            self.add(card, origin="vitbench")

    def add(self, card: C, origin: str) -> None:
        """Register a card; a name that is taken by another origin is refused."""
        taken = self._origin.get(card.name)
        if taken is not None and taken != origin:
            raise UsageError(
                f"{self.kind} {card.name!r} of {origin} is already registered by {taken}", "rename one of them"
            )
        self._cards[card.name] = card
        self._origin[card.name] = origin

    def _read_entry_points(self) -> None:
        if self._entry_points_read:
            return
        self._entry_points_read = True
        for point in importlib.metadata.entry_points(group=self.group):
            origin = f"package {point.dist.name if point.dist else point.value}"
            try:
                loaded = point.load()
            except Exception as error:  # somebody's own code: whatever it raises is said in a line
                remedy = "mend the package, or uninstall it"
                raise UsageError(f"{self.kind} {point.name!r} of {origin}: {in_a_line(error)}", remedy) from error
            self._add_loaded(loaded, point.value, origin)

    def _add_loaded(self, loaded: Any, value: str, origin: str) -> None:
        """Register what an entry point names: a card with an entry of its own, or a class or function that carries one."""
        card: Any = loaded if hasattr(loaded, "entry") else getattr(loaded, "card", None)
        known: Any = type(next(iter(self._cards.values()), card))
        if card is None or not isinstance(card, known):
            raise UsageError(
                f"{value} of {origin} carries no card of a {self.kind}", f"set `card = {known.__name__}(...)`"
            )
        if card is not loaded:
            card = replace(card, entry=loaded)
            if self._require is not None:
                self._require(self.kind, card, loaded, origin)
        self.add(card, origin)

    def __iter__(self) -> Iterator[C]:
        self._read_entry_points()
        return iter(self._cards.values())

    def __contains__(self, name: str) -> bool:
        self._read_entry_points()
        return name in self._cards

    def names(self) -> list[str]:
        return [card.name for card in self]

    def origin(self, name: str) -> str:
        """Who registered the entry: "vitbench", "package NAME" or "plugin FILE"."""
        self.get(name)
        return self._origin[name]

    def get(self, name: str) -> C:
        """The card of that name; an unknown name is answered with what was probably meant."""
        self._read_entry_points()
        if name in self._cards:
            return self._cards[name]
        lower = {known.lower(): known for known in self._cards}
        near = [lower[found] for found in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
        hint = f"did you mean {', '.join(near)}?" if near else f"`vitbench list {self.kind}s` shows all"
        raise UsageError(f"unknown {self.kind} {name!r}", hint)

    def match(self, pattern: str) -> list[str]:
        """Names that match a glob; a pattern without wildcards must exist."""
        if not any(c in pattern for c in "*?"):
            return [self.get(pattern).name]
        return [name for name in self.names() if fnmatchcase(name, pattern)]

    def load(self, name: str) -> Any:
        """Import and return what is behind the entry, checked against the kind's base class."""
        entry = self.get(name).entry
        target = resolve(entry) if isinstance(entry, str) else entry
        if self._base is not None:
            base = resolve(self._base)
            if isinstance(target, type) and not issubclass(target, base):
                raise UsageError(f"{self.kind} {name!r}: {target.__qualname__} is not a {base.__name__}")
        return target


def resolve(entry: str) -> Any:
    """Import "package.module:attribute"."""
    module, _, attribute = entry.partition(":")
    return getattr(importlib.import_module(module), attribute)
