"""The command line: one verb per file. Errors become one line and the documented exit code."""

from __future__ import annotations

import signal
import sys
from typing import Any

import typer

from vitbench.errors import VitbenchError

app = typer.Typer(
    name="vitbench",
    help="One honest leaderboard for dense representations of Vision Transformers: any backbone x any repair x any task.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


INTERRUPTED = 130
# The common base of what is raised for a bad option: click's, or the copy of it that newer versions of typer carry.
BAD_OPTION: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _mount() -> None:
    if app.registered_commands:
        return
    from vitbench.cli.accept import accept
    from vitbench.cli.cache import cache
    from vitbench.cli.check import check
    from vitbench.cli.compare import compare
    from vitbench.cli.data import data
    from vitbench.cli.doctor import doctor
    from vitbench.cli.export import export
    from vitbench.cli.inspect import inspect
    from vitbench.cli.leaderboard import leaderboard
    from vitbench.cli.listing import list_entries
    from vitbench.cli.nightly import nightly
    from vitbench.cli.plan import plan
    from vitbench.cli.report import report
    from vitbench.cli.run import run
    from vitbench.cli.show import show

    app.command()(run)
    app.command()(plan)
    app.command("list")(list_entries)
    app.command()(show)
    app.command()(leaderboard)
    app.command()(inspect)
    app.command()(report)
    app.command()(compare)
    app.command()(nightly)
    app.command()(accept)
    app.command()(export)
    app.command()(check)
    app.command()(doctor)
    app.add_typer(cache, name="cache")
    app.add_typer(data, name="data")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `vitbench`. Exit codes: 0 ok, 1 cells failed, 2 usage, 3 nothing selected, 4 regression, 130 interrupted."""
    _mount()
    signal.signal(
        signal.SIGTERM, _interrupt
    )  # a scheduler's way to end a run: as Ctrl-C, so that no worker stays behind
    try:
        code = app(args=arguments, standalone_mode=False)
    except VitbenchError as error:
        print(f"vitbench: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except BrokenPipeError:  # `vitbench list | head`
        sys.stderr.close()
        sys.exit(0)
    except BAD_OPTION as error:
        print(f"vitbench: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    if code == INTERRUPTED:  # which is also what newer versions of typer make of Ctrl-C
        print("vitbench: interrupted; the same command goes on from here", file=sys.stderr)
    sys.exit(code or 0)
