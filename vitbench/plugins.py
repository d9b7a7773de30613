"""`--plugin FILE`: somebody's own repair, task, backbone or data set in one file, registered without a fork.

The code of a plug-in is part of the identity of its numbers: whoever edits it gets new ones, never yesterday's from a cache.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from vitbench.catalogue import BACKBONES, DATASETS, DEFECTS, REPAIRS, TASKS
from vitbench.catalogue.cards import BackboneCard, DatasetCard, DefectCard, RepairCard, TaskCard
from vitbench.catalogue.sound import require_sound
from vitbench.errors import UsageError, VitbenchError, in_a_line
from vitbench.own_modules import own_modules, project_of
from vitbench.registry import Registry

_REGISTRIES: dict[type, Registry[Any]] = {
    BackboneCard: BACKBONES, DefectCard: DEFECTS, RepairCard: REPAIRS, TaskCard: TASKS, DatasetCard: DATASETS,
}  # fmt: skip


def load_plugins(files: Iterable[str]) -> list[str]:
    """Import each file and register every class or function in it that carries a `card`; returns the names."""
    names = []
    for file in files:
        path = Path(file).resolve()
        module = _import(path, file)
        found = [
            v for v in vars(module).values() if _card(v) is not None and getattr(v, "__module__", "") == module.__name__
        ]
        if not found:
            raise UsageError(
                f"plugin {file}: nothing in it carries a card", "set `card = RepairCard(...)` on your class"
            )
        _require_distinct(found, file)
        code = _made_from(path)
        names += [register(obj, origin=f"plugin {_shown(path)}", code=code) for obj in found]
    return names


def register(target: Any, origin: str = "python", code: str | None = None) -> str:
    """Make a class or function that carries a `card` known by the name on it, as one's own in a notebook; returns the name.

    The card is a Repair-, Task-, Backbone-, Defect- or DatasetCard of `vitbench.catalogue.cards`; its `entry` becomes the object
    itself. Registered again, it takes the place of what was. origin: who it is of, as errors tell. code: digest of what it was
    made from, part of the identity of its numbers (default: of its own source; Python knows none of what is typed into a prompt:
    there, raise `version`). Raises UsageError where card and object do not fit together, or another origin has the name.
    """
    card = _card(target)
    if card is None:
        raise UsageError(
            f"{target!r} carries no card", "set `card = RepairCard(...)` (or Task-, Backbone-, DatasetCard) on it"
        )
    registry = _REGISTRIES[type(card)]
    require_sound(registry.kind, card, target, origin)
    made_from = _own_code(target) if code is None else code
    registry.add(replace(card, entry=target, code=made_from), origin=origin)
    return str(card.name)


def code_digest(source: str) -> str:
    """16 hex digits of what a Python source does: comments and layout do not count."""
    return hashlib.sha256(ast.dump(ast.parse(source)).encode()).hexdigest()[:16]


def _made_from(path: Path) -> str:
    """Digest of a plug-in and of the modules of one's own that it imports; where there are none, that of its text alone."""
    own, root = code_digest(path.read_text(encoding="utf-8")), project_of(path)
    others = [f"{other.relative_to(root)} {_file_digest(other)}" for other in own_modules(path)]
    return hashlib.sha256("\n".join([own, *others]).encode()).hexdigest()[:16] if others else own


def _file_digest(path: Path) -> str:
    try:
        return code_digest(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):  # an extension, or text of another kind
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def loaded_code() -> dict[str, str]:
    """The digests of all that came from files, by kind and name: what a worker must have loaded too."""
    return {
        f"{registry.kind} {card.name!r} of {origin}": card.code
        for registry in _REGISTRIES.values()
        for card in registry
        if (origin := registry.origin(card.name)).startswith("plugin ")
    }


def require_code(expected: Mapping[str, str]) -> None:
    """Raises UsageError where a plug-in is not what it was when the run was planned."""
    here = loaded_code()
    for name, code in expected.items():
        if here.get(name) != code:
            raise UsageError(f"{name} was edited after the run began", "the same command again measures what it is now")


def _own_code(target: Any) -> str:
    try:
        return code_digest(textwrap.dedent(inspect.getsource(target)))
    except (OSError, TypeError, SyntaxError):  # typed into a prompt: only its version tells it apart
        return ""


def _card(value: object) -> Any:
    card = getattr(value, "card", None)
    return card if type(card) in _REGISTRIES else None


def _require_distinct(found: Iterable[Any], file: str) -> None:
    holders: dict[tuple[type, str], Any] = {}
    for value in found:
        card = _card(value)
        other = holders.setdefault((type(card), card.name), value)
        if other is not value:
            raise UsageError(
                f"plugin {file}: {other.__qualname__} and {value.__qualname__} carry the same name {card.name!r}",
                "a subclass needs a card of its own: `card = dataclasses.replace(Base.card, name=...)`",
            )


def _shown(path: Path) -> str:
    """The path as people write it: from here where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if here in path.parents else path)


def _import(path: Path, shown: str) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"plugin {shown}: no such file")
    # Two files of one name in different folders are two modules.
    name = f"vitbench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"plugin {shown}: not a Python file", "its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except VitbenchError:
        raise
    except (Exception, SystemExit) as error:  # somebody's own code: whatever it raises is said in a line
        raise UsageError(f"plugin {shown}: {in_a_line(error)}") from error
    return module
