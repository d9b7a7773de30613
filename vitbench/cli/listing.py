"""`vitbench list`: names of what is registered, with a line about each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from vitbench.cli import options as o

Kind = Literal["backbones", "defects", "repairs", "tasks", "protocols", "datasets", "suites"]


def list_entries(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="An array of objects, each with `name`.")] = False,
    plugin: o.Plugin = None,
) -> None:
    """List backbones, defects, repairs, tasks, protocols, datasets or suites."""
    o.with_plugins(plugin)
    rows = entries(kind)
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    width = max((len(r["name"]) for r in rows), default=0)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['summary']}".rstrip())


def entries(kind: str) -> list[dict[str, Any]]:
    """Plain rows of a kind: `name`, `summary`, and what tells entries apart."""
    from vitbench import catalogue as c

    def backbones() -> list[dict[str, Any]]:
        return [
            {"name": x.name, "kind": x.kind, "family": x.family, "patch_px": x.patch_px, "registers": x.registers,
             "licence": x.licence, "summary": f"{x.family}, patch {x.patch_px}, dim {x.embed_dim}, depth {x.depth}"
             + (f", {x.registers} registers" if x.registers else "")
             + (f" ({x.notes.partition(';')[0]})" if x.kind != "model" and x.notes else "")}
            for x in c.BACKBONES
        ]  # fmt: skip

    def repairs() -> list[dict[str, Any]]:
        return [
            {"name": x.name, "family": x.family, "role": x.role, "acts_on": list(x.acts_on), "needs_fit": x.needs_fit,
             "summary": x.summary} for x in c.REPAIRS
        ]  # fmt: skip

    def protocols() -> list[dict[str, Any]]:
        return [
            {"name": f"{t.name}@{p.name}", "version": p.version, "summary": p.summary}
            for t in c.TASKS
            for p in t.protocols
        ]

    def tasks() -> list[dict[str, Any]]:
        return [
            {"name": t.name, "family": t.family, "headline": t.headline, "protocols": [p.name for p in t.protocols],
             "targets": list(t.targets), "summary": t.summary or t.title} for t in c.TASKS
        ]  # fmt: skip

    def suites() -> list[dict[str, Any]]:
        from vitbench.suite import load_suite, suite_names

        return [{"name": n, "summary": load_suite(n).summary} for n in suite_names()]

    makers: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "backbones": backbones, "repairs": repairs, "protocols": protocols, "tasks": tasks, "suites": suites,
        "defects": lambda: [{"name": x.name, "summary": x.summary} for x in c.DEFECTS],
        "datasets": lambda: [
            {"name": x.name, "targets": list(x.targets), "splits": dict(x.splits), "summary": x.summary} for x in c.DATASETS
        ],
    }  # fmt: skip
    return makers[kind]()
