"""`--plugin FILE`: somebody's own repair, task, backbone or data set in one file, registered without a fork."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from vitbench.catalogue import BACKBONES, DATASETS, DEFECTS, REPAIRS, TASKS
from vitbench.catalogue.cards import BackboneCard, DatasetCard, DefectCard, RepairCard, TaskCard
from vitbench.errors import UsageError
from vitbench.registry import Registry

_REGISTRIES: dict[type, Registry[Any]] = {
    BackboneCard: BACKBONES, DefectCard: DEFECTS, RepairCard: REPAIRS, TaskCard: TASKS, DatasetCard: DATASETS,
}  # fmt: skip


def load_plugins(files: Iterable[str]) -> list[str]:
    """Import each file and register every class or function in it that carries a `card`; returns the names."""
    names = []
    for file in files:
        path = Path(file)
        module = _import(path)
        found = [
            v for v in vars(module).values() if _card(v) is not None and getattr(v, "__module__", "") == module.__name__
        ]
        if not found:
            raise UsageError(
                f"plugin {file}: nothing in it carries a card", "set `card = RepairCard(...)` on your class"
            )
        names += [register(obj, origin=f"plugin {path.name}") for obj in found]
    return names


def _card(value: object) -> Any:
    card = getattr(value, "card", None)
    return card if type(card) in _REGISTRIES else None


def register(target: Any, origin: str = "python") -> str:
    """Register a class or function that carries a `card`; its `entry` becomes the object itself. Returns the name."""
    card = _card(target)
    if card is None:
        raise UsageError(
            f"{target!r} carries no card", "set `card = RepairCard(...)` (or Task-, Backbone-, DatasetCard) on it"
        )
    _REGISTRIES[type(card)].add(replace(card, entry=target), origin=origin)
    return str(card.name)


def _import(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"plugin {path}: no such file")
    name = f"vitbench_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError, TypeError, AttributeError) as error:
        raise UsageError(f"plugin {path}: {type(error).__name__}: {error}") from error
    return module
