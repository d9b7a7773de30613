"""The registry: lazy, typed, and helpful about names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from vitbench.errors import UsageError
from vitbench.registry import Registry


@dataclass(frozen=True)
class Card:
    name: str
    entry: Any


def registry() -> Registry[Card]:
    return Registry("thing", [Card("alpha", "json:dumps"), Card("beta", "no.such.module:x")], base="json:JSONEncoder")


def test_an_unknown_name_says_what_was_probably_meant() -> None:
    with pytest.raises(UsageError, match="did you mean alpha"):
        registry().get("alpah")
    with pytest.raises(UsageError, match="did you mean alpha"):
        registry().get("ALPHA")


def test_entries_are_imported_only_by_load() -> None:
    things = registry()
    assert things.names() == ["alpha", "beta"]
    assert things.load("alpha").__name__ == "dumps"
    with pytest.raises(ModuleNotFoundError):
        things.load("beta")


def test_a_class_of_another_kind_is_refused() -> None:
    things = registry()
    things.add(Card("wrong", "json:JSONDecoder"), origin="test")
    with pytest.raises(UsageError, match="JSONDecoder is not a JSONEncoder"):
        things.load("wrong")


def test_a_name_of_another_origin_is_not_overwritten() -> None:
    things = registry()
    with pytest.raises(UsageError, match="already registered by vitbench"):
        things.add(Card("alpha", "json:loads"), origin="plugin mine.py")
    assert things.origin("alpha") == "vitbench"


def test_globs_select_and_plain_names_must_exist() -> None:
    things = registry()
    assert things.match("a*") == ["alpha"]
    assert things.match("z*") == []
    with pytest.raises(UsageError):
        things.match("gamma")


def test_entry_points_of_other_packages_are_read_at_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        value = "theirs:card"
        dist = type("Dist", (), {"name": "their-package"})

        @staticmethod
        def load() -> Card:
            return Card("theirs", "json:dumps")

    def found(group: str) -> list[type[Point]]:
        return [Point] if group == "vitbench.things" else []

    monkeypatch.setattr("importlib.metadata.entry_points", found)
    things = registry()
    assert things.load("theirs").__name__ == "dumps"
    assert things.origin("theirs") == "package their-package"
