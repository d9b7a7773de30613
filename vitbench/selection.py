"""The grammar of names on the command line and in suites.

`name`, `name[key=value,key=value]`, chains `a+b[c=1]`, comma-separated lists of those; names may hold globs. Pure text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from vitbench.errors import UsageError

P = TypeVar("P")


@dataclass(frozen=True)
class Term:
    """A name with its parameters as text, in the order given."""

    name: str
    params: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        inner = ",".join(f"{k}={v}" for k, v in self.params)
        return f"{self.name}[{inner}]" if inner else self.name


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a separator that is not inside brackets; blanks around parts are dropped."""
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c == "[") - (c == "]")
        if depth < 0 or depth > 1:
            raise UsageError(f"brackets do not match in {text!r}")
        if c == separator and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    if depth:
        raise UsageError(f"brackets do not match in {text!r}")
    return [p.strip() for p in [*parts, text[start:]]]


def split_list(text: str) -> list[str]:
    """Comma-separated names, commas in brackets left alone; empty parts are dropped."""
    return [part for part in split_outside(text, ",") if part]


def parse_term(text: str) -> Term:
    """`name[key=value,...]` -> Term."""
    name, bracket, rest = text.strip().partition("[")
    name = name.strip()
    if not name:
        raise UsageError(f"empty name in {text!r}")
    if wrong := re.fullmatch(r"(\w+)[({](\w+=.*)[)}]", name):
        raise UsageError(f"{name!r}: parameters go in square brackets", f"write {wrong[1]}[{wrong[2]}]")
    if not bracket:
        return Term(name)
    if not rest.endswith("]"):
        raise UsageError(f"unexpected text after the brackets in {text!r}")
    params = []
    for part in filter(None, (p.strip() for p in rest[:-1].split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"parameter {part!r} of {name!r} needs the form key=value")
        params.append((key.strip(), value.strip()))
    return Term(name, tuple(params))


def parse_chain(text: str) -> tuple[Term, ...]:
    """`a[x=1]+b` -> (a, b)."""
    parts = split_outside(text, "+")
    if len(parts) > 1 and not all(parts):
        raise UsageError(f"{text!r} has nothing on one side of a +", "write a+b")
    return tuple(parse_term(part) for part in parts)


def with_params(default: P, term: Term, kind: str) -> P:
    """A frozen dataclass with the term's parameters put in, each converted to the type of its field."""
    if not dataclasses.is_dataclass(default) or isinstance(default, type):
        raise TypeError("parameters are an instance of a dataclass")
    if not term.params:
        return default
    hints = typing.get_type_hints(type(default))
    known = [f.name for f in dataclasses.fields(default)]
    changes: dict[str, Any] = {}
    for key, text in term.params:
        if key in changes:
            raise UsageError(f"{kind} {term.name!r}: {key} is given twice", "once is enough")
        if key not in known:
            raise UsageError(f"{kind} {term.name!r} has no parameter {key!r}", f"it has {', '.join(known) or 'none'}")
        changes[key] = convert(text, hints[key], f"{kind} {term.name!r}: {key}")
    return typing.cast(P, dataclasses.replace(default, **changes))


_SORTS: Mapping[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}


def convert(text: str, hint: Any, where: str) -> Any:
    """Text -> int, float, bool, str, Literal, None or a union of those (tried in the order written)."""
    origin = typing.get_origin(hint)
    if origin is typing.Union or origin is types.UnionType:
        for option in typing.get_args(hint):
            try:
                return convert(text, option, where)
            except UsageError:
                continue
    elif origin is typing.Literal:
        for option in typing.get_args(hint):
            if str(option) == text:
                return option
    elif hint is type(None):
        if text in ("none", "None"):
            return None
    elif hint is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
    elif hint is str:
        return text
    elif hint in (int, float):
        with contextlib.suppress(ValueError):
            value = hint(text)
            if value == value:  # nan equals nothing, itself included, so no two such cells would be the same
                return value
    if origin is typing.Literal:
        wanted = " or ".join(str(o) for o in typing.get_args(hint))
    else:
        wanted = _SORTS.get(hint) or str(getattr(hint, "__name__", hint))
    raise UsageError(f"{where}={text!r} is not {wanted}")


def every_param(value: Any) -> tuple[tuple[str, str], ...]:
    """All parameters of a dataclass instance as text, for identities: a default may change, a number may not."""
    return tuple((f.name, str(getattr(value, f.name))) for f in dataclasses.fields(value))


def overrides(default: Any, value: Any) -> tuple[tuple[str, str], ...]:
    """The parameters in which a dataclass instance differs from its default, as text: the canonical brackets."""
    return tuple(
        (f.name, str(getattr(value, f.name)))
        for f in dataclasses.fields(default)
        if getattr(value, f.name) != getattr(default, f.name)
    )
