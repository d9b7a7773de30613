"""One page per protocol, written from its frozen settings, so that what is said and what is run cannot part.

`python -m vitbench.reports.protocols` rewrites `benchmarks/protocols/`; a test says whether the committed pages agree.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from tabulate import tabulate

from vitbench.catalogue.cards import Protocol, TaskCard
from vitbench.catalogue.tasks import TASK_CARDS
from vitbench.catalogue.tasks.checks import CHECKS, Check
from vitbench.catalogue.tasks.settings import explained
from vitbench.metrics import measures
from vitbench.paths import benchmarks_dir

_SELECTION = {
    "none": "nothing is chosen",
    "heldout": "hyper-parameters are chosen on a slice of train",
    "oracle": "hyper-parameters are chosen on the test split, as in the source: an upper bound",
}
_GROUPS = {"video": "videos", "correspondence": "source images, or videos"}


def page_name(card: TaskCard, protocol: Protocol) -> str:
    """File name of a protocol's page."""
    return f"{card.name}@{protocol.name}.md"


def page(card: TaskCard, protocol: Protocol) -> str:
    """Markdown of a protocol: what it does, its settings, what it reads, what it measures, and how it differs."""
    source = str(protocol.source) if protocol.source else "this suite"
    if protocol.source and protocol.source.url:
        source += f" ({protocol.source.url})"
    facts = [
        ("version", protocol.version),
        ("source", source),
        ("splits", ", ".join(card.splits)),
        ("targets", ", ".join(card.targets) or "none"),
        ("also reads", ", ".join(card.aux(protocol.settings)) or "nothing"),
        ("selection", _SELECTION[protocol.selection]),
        ("random", "yes: depends on the seed" if card.stochastic or protocol.stochastic else "no"),
    ]
    settings = [(f"`{name}`", f"`{value}`", text) for name, value, text in explained(protocol.settings)]
    sections = [
        f"# {card.name}@{protocol.name}",
        f"{card.summary} {protocol.summary}",
        _table(facts, ("", "")),
        "## Settings",
        _table(settings, ("setting", "value", "meaning")),
        "## Measures",
        _table(_measures(card), ("measure", "unit", "better", "interval")),
        meaning(str(card.metric)),
    ]
    if protocol.differs:
        sections += ["## How it differs", protocol.differs]
    if checks := CHECKS.get(f"{card.name}@{protocol.name}"):
        sections += ["## To check on released weights and data", _checks(checks)]
    return "\n\n".join(filter(None, sections)) + "\n"


def meaning(metric: str) -> str:
    """What the measures of a metric kind are: the docstring of their module, one line a paragraph."""
    text = inspect.getdoc(importlib.import_module(f"vitbench.metrics.{metric}")) or ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _measures(card: TaskCard) -> list[tuple[str, str, str, str]]:
    return [
        (
            f"**{m.name}**" if m.name == card.headline else m.name,
            m.unit or "-",
            "higher" if m.higher_is_better else "lower",
            f"none: {m.no_bootstrap}" if m.no_bootstrap else f"bootstrap over {_GROUPS.get(card.family, 'images')}",
        )
        for m in measures(card.metric)
    ]


def _checks(checks: tuple[Check, ...]) -> str:
    """A block of commands, and what each must print."""
    commands = "\n".join(dict.fromkeys(check.command for check in checks))
    numbers = {command: i for i, command in enumerate(commands.splitlines(), 1)}
    rows = [
        (
            numbers[c.command], c.measure, f"{c.value:g}", "not known" if c.tolerance is None else f"{c.tolerance:g}",
            c.source, c.why or "-",
        )
        for c in checks
    ]  # fmt: skip
    headers = ("command", "measure", "published", "tolerance", "source", "what may differ")
    return f"```\n{commands}\n```\n\n{_table(rows, headers)}"


def _table(rows: list[Any], headers: tuple[str, ...]) -> str:
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def pages() -> dict[str, str]:
    """File name -> page of every protocol that ships with the suite."""
    return {page_name(card, protocol): page(card, protocol) for card in TASK_CARDS for protocol in card.protocols}


def write_pages(folder: Path) -> None:
    """Write all pages, and remove those of protocols that are no more."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for stale in {p.name for p in folder.glob("*@*.md")} - set(wanted):
        (folder / stale).unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages(benchmarks_dir() / "protocols")
