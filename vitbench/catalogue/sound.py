"""What the card of a plug-in must say truly, asked when it is registered: else a run would quietly leave its code out.

No torch: a class is judged by its names alone.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from vitbench.catalogue.cards import RepairCard, TaskCard, TaskSettings
from vitbench.catalogue.fields import GRID_FIELDS, OTHER_FIELDS, parse_field
from vitbench.errors import UsageError
from vitbench.paths import PACKAGE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_BASES = {"repair": ("vitbench.repairs.base", "Repair"), "task": ("vitbench.tasks.base", "Task")}
Refuse = Callable[[str, str], UsageError]


def require_sound(kind: str, card: Any, target: Any, origin: str) -> None:
    """Raises UsageError where a card and the class or function behind it do not fit together."""

    def refuse(what: str, remedy: str) -> UsageError:
        return UsageError(f"{kind} {card.name!r} of {origin}: {what}", remedy)

    if not isinstance(card.name, str) or not _NAME.fullmatch(card.name):
        raise refuse("this name cannot be written on the command line", "use letters, digits, _ . and -")
    _require_types(card, refuse)
    if kind in _BASES and isinstance(target, type) and not _inherits(target, *_BASES[kind]):
        module, base = _BASES[kind]
        raise refuse(f"{target.__name__} is no {base}", f"derive it from {module}.{base}")
    if missing := sorted(getattr(target, "__abstractmethods__", ())):
        raise refuse(f"{target.__name__} has no {missing[0]}", "write that method")
    if isinstance(card, RepairCard):
        _require_params(card.params, "params", refuse)
        _require_repair(card, target, refuse)
    elif isinstance(card, TaskCard):
        _require_task(card, refuse)


def _require_types(card: Any, refuse: Refuse) -> None:
    """A dataclass takes anything, and what is mistyped would show much later, or never."""
    hints = typing.get_type_hints(type(card))
    for field in dataclasses.fields(card):
        value, hint = getattr(card, field.name), hints[field.name]
        if isinstance(value, str) and typing.get_origin(hint) is tuple:
            raise refuse(f"{field.name}={value!r} is no tuple", f"write {field.name}=({value!r},)")
        if not _fits(value, hint):
            raise refuse(f"{field.name}={value!r} cannot be", f"it is {_told(hint)}")
        if field.name in ("version", "least_images") and value < 1:
            raise refuse(f"{field.name}={value} cannot be", "it counts from 1")


def _fits(value: Any, hint: Any) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return value in args
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in args)
    if origin is tuple and args[-1] is Ellipsis:
        return isinstance(value, tuple) and all(_fits(one, args[0]) for one in value)
    return isinstance(value, int | float) if hint is float else isinstance(value, origin or hint)


def _told(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(typing.get_args(hint))}"
    if typing.get_origin(hint) is Callable:
        return "a function, such as lambda params: ..."
    return getattr(hint, "__name__", str(hint)) if not typing.get_args(hint) else str(hint)


def _inherits(target: type, module: str, name: str) -> bool:
    return any((base.__module__, base.__name__) == (module, name) for base in target.__mro__)


def _writes(target: Any, method: str) -> bool:
    """Whether a repair has its own version of a method."""
    if not isinstance(target, type):
        return False
    owner = next((base for base in target.__mro__ if method in vars(base)), None)
    return owner is not None and owner.__module__ != _BASES["repair"][0]


def _require_params(params: Any, what: str, refuse: Refuse) -> None:
    if not dataclasses.is_dataclass(params) or isinstance(params, type):
        called = f"{params.__name__}()" if isinstance(params, type) else "NoParams()"
        raise refuse(f"{what} is not an instance of a dataclass", f"write {what}={called}")
    if not params.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise refuse(f"{type(params).__name__} can be changed", "write @dataclass(frozen=True)")
    hints = typing.get_type_hints(type(params))
    for field in dataclasses.fields(params):
        if not _readable(hints[field.name]):
            raise refuse(
                f"{field.name} has a type that cannot be written in brackets",
                "int, float, bool, str, a Literal, None, or a union of these",
            )


def _readable(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is typing.Union or origin is types.UnionType:
        return all(_readable(option) for option in typing.get_args(hint))
    return origin is Literal or hint in (int, float, bool, str, type(None))


def _require_repair(card: RepairCard, target: Any, refuse: Refuse) -> None:
    known = {*GRID_FIELDS, *OTHER_FIELDS, "*"}
    if unknown := [kind for kind in card.acts_on if kind not in known]:
        raise refuse(f"acts_on names no kind of field: {unknown[0]}", "for example acts_on=('patch', 'key')")
    if not card.acts_on:
        raise refuse("acts_on is empty, so it would be applicable to nothing", "for example acts_on=('patch', 'key')")
    for name in card.needs:
        try:
            parse_field(name)
        except UsageError as error:
            raise refuse(f"needs: {error.message}", error.remedy) from None
    names = [field.name for field in dataclasses.fields(card.params)]
    if unknown := [name for name in card.applied_only if name not in names]:
        raise refuse(f"applied_only names {unknown[0]!r}", f"its parameters are {', '.join(names) or 'none'}")
    if _writes(target, "map"):
        raise refuse("it overrides map, which is sealed", "override map_field")
    # What the card does not announce is never called, and the table would say "no effect".
    for method, announced, word in (("edit", card.edits, "edits"), ("fit", card.needs_fit, "needs_fit")):
        if _writes(target, method) and not announced:
            raise refuse(
                f"it has {method}, which is not called unless the card says so", f"set {word}=True on the card"
            )
    if card.edits and not _writes(target, "edit"):
        raise refuse("the card says edits=True, but it has no edit", "write edit, or set edits=False")
    if card.needs_fit and not _writes(target, "fit"):
        raise refuse("the card says needs_fit=True, but it has no fit", "write fit, or set needs_fit=False")
    if card.edits and _writes(target, "map_field"):
        raise refuse(
            "it has edit and map_field, and only the first would be called", "make two repairs and join them: EDIT+MAP"
        )
    changes_forward = card.family in ("edit", "ensemble", "weights")
    if card.edits and not changes_forward:
        raise refuse(
            f"it edits the forward, and family={card.family!r} does not", "set family='edit' (or 'ensemble', 'weights')"
        )
    if changes_forward and not card.edits:
        raise refuse(
            f"family={card.family!r} edits the forward, and it does not",
            "set family='map', or edits=True and write edit",
        )
    does = card.edits or card.swaps or card.family == "none" or _writes(target, "map_field")
    if isinstance(target, type) and not does:
        raise refuse("it has neither map_field nor edit, so it changes nothing", "write one of them")


def _require_task(card: TaskCard, refuse: Refuse) -> None:
    if not card.protocols:
        raise refuse("it has no protocol", "give it one: protocols=(Protocol(name=..., version=1, settings=...),)")
    for protocol in card.protocols:
        if not isinstance(protocol.settings, TaskSettings):
            raise refuse(f"the settings of {protocol.name!r} are no TaskSettings", "derive them from TaskSettings")
        _require_params(protocol.settings, "settings", refuse)
    if isinstance(card.metric, str):
        kinds = sorted(path.stem for path in (PACKAGE / "metrics").glob("[a-z]*.py"))
        if card.metric not in kinds:
            remedy = f"metric=(Measure(...), ...) of vitbench.records.rows, or a kind: {', '.join(kinds)}"
            raise refuse(f"there is no kind of metric {card.metric!r}", remedy)
    elif card.headline not in [measure.name for measure in card.metric]:
        raise refuse(f"its headline {card.headline!r} is none of its measures", "name one of them")
    if unknown := [split for split in card.splits if split not in ("train", "val")]:
        raise refuse(f"it reads a split {unknown[0]!r}", "train, val, or both")
