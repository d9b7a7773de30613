"""What `--help` says is what was written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from rich.markup import render

from vitbench import cli


def commands(command: Any) -> Iterator[Any]:
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from commands(below)


def test_no_help_is_taken_for_markup_and_swallowed() -> None:
    cli._mount()
    texts = [option.help for command in commands(typer.main.get_command(cli.app)) for option in command.params]
    written = [text for text in texts if text]
    assert len(written) > 50
    assert [render(text).plain for text in written] == written
