"""`vitbench show NAME`: the whole card of one entry, whatever its kind."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitbench.cli import options as o
from vitbench.errors import UsageError

if TYPE_CHECKING:
    from vitbench.catalogue.cards import DatasetCard


def show(
    name: Annotated[str, typer.Argument(help="A backbone, defect, repair, task, task@protocol, dataset or suite.")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
    plugin: o.Plugin = None,
) -> None:
    """Show everything known about one entry: settings, source, licence, what differs from the paper."""
    o.with_plugins(plugin)
    kind, card = find(name)
    data = plain(card, words=not as_json)
    if as_json:
        print(json.dumps({"kind": kind, **data}, indent=1))
        return
    print(f"{kind} {name}" + _from(card))
    _print(data, indent=2)


def _from(card: Any) -> str:
    """Where an entry of somebody else comes from."""
    from vitbench import catalogue as c

    for registry in (c.BACKBONES, c.DEFECTS, c.REPAIRS, c.TASKS, c.DATASETS):
        if getattr(card, "name", "") in registry and registry.get(card.name) is card:
            origin = registry.origin(card.name)
            return "" if origin == "vitbench" else f" ({origin})"
    return ""


def find(name: str) -> tuple[str, Any]:
    """(kind, card) of a name in any registry, or of a suite."""
    import difflib

    from vitbench import catalogue as c
    from vitbench.catalogue.weights import backbone_card
    from vitbench.selection import parse_term
    from vitbench.suite import load_suite, suite_names

    task, at, protocol = name.partition("@")
    if at and task in c.TASKS:
        return "protocol", c.TASKS.get(task).protocol(protocol)
    registries = (c.BACKBONES, c.DEFECTS, c.REPAIRS, c.TASKS, c.DATASETS)
    for registry in registries:
        if name in registry:
            return registry.kind, registry.get(name)
    if name in suite_names():
        return "suite", load_suite(name)
    if name.startswith("timm:") or name.partition("[")[0] in c.BACKBONES:
        return c.BACKBONES.kind, backbone_card(parse_term(name))
    known = [n for registry in registries for n in registry.names()] + suite_names()
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    raise UsageError(
        f"unknown name {name!r}", f"did you mean {', '.join(near)}?" if near else "see `vitbench list KIND`"
    )


def plain(value: Any, words: bool = False) -> Any:
    """Cards as plain data: dataclasses and models to dicts, sources and code to text, empty entries left out.

    words: settings of a protocol with what each means.
    """
    from vitbench.catalogue.cards import DatasetCard, Source, TaskSettings
    from vitbench.catalogue.tasks.settings import explained

    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, Source):
        return f"{value}, {value.url}" if words and value.url else str(value)
    if words and isinstance(value, DatasetCard):
        value = _told(value)
    if words and isinstance(value, TaskSettings):
        return {name: f"{setting}  ({phrase})" for name, setting, phrase in explained(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {
            k: plain(v, words)
            for k, v in pairs
            if v not in ("", None, (), {}) and not (callable(v) and not isinstance(v, type))
        }
    if isinstance(value, (tuple, list)):
        return [plain(v, words) for v in value]
    if isinstance(value, dict):
        return {k: plain(v, words) for k, v in value.items()}
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def _told(card: DatasetCard) -> DatasetCard:
    """A card as people read it: names of classes instead of the file that has them, counts that are not known as words."""
    splits: dict[str, Any] = {split: count or "not counted" for split, count in card.splits.items()}
    return dataclasses.replace(card.named(), splits=splits, class_file="", label_file="")


def _print(data: Any, indent: int) -> None:
    pad = " " * indent
    for key, value in data.items():
        if isinstance(value, dict):
            print(f"{pad}{key}:")
            _print(value, indent + 2)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for item in value:
                print(f"{pad}{key} {item['name']}:" if "name" in item else f"{pad}{key}:")
                _print(item, indent + 2)
        else:
            print(f"{pad}{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
