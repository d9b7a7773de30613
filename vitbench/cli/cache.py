"""`vitbench cache`: look at stored tokens, drop what is not needed, check that nothing is damaged."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Annotated

import typer

from vitbench.cli import options as o

cache = typer.Typer(help="Stored tokens and fitted states.", no_args_is_help=True)


@cache.command()
def ls(cache: o.Cache = None) -> None:
    """List stored parts, least recently used first."""
    from vitbench.tokens.manifest import parts

    opts = o.run_options(None, cache, None, None, None)
    found = parts(opts.tokens)
    for p in found:
        age = (time.time() - p.last_used) / 3600
        state = ", ".join(p.fields) if p.complete else "incomplete"
        print(f"{p.store}  {p.bytes / 1e6:9.1f} MB  {p.images:7d} images  {age:6.1f} h ago  {state}")
    states = list(opts.states.glob("*.safetensors")) if opts.states.is_dir() else []
    size = sum(p.bytes for p in found) + sum(s.stat().st_size for s in states)
    print(f"{len(found)} parts, {len(states)} fitted states, {size / 1e6:.1f} MB in {opts.cache}")


@cache.command()
def gc(
    cache: o.Cache = None,
    budget: Annotated[str, typer.Option(help="Keep the most recently used parts up to this size.")] = "0",
    all_: Annotated[bool, typer.Option("--all", help="Drop everything, fitted states too.")] = False,
) -> None:
    """Drop incomplete parts, and the least recently used ones over the budget."""
    from vitbench.engine.options import parse_bytes
    from vitbench.tokens.manifest import evict, parts

    opts = o.run_options(None, cache, None, None, None)
    freed = 0
    for p in parts(opts.tokens):
        if not p.complete:
            shutil.rmtree(p.path, ignore_errors=True)
            freed += p.bytes
    freed += evict(opts.tokens, frozenset(), parse_bytes(budget) or 0)
    if all_ and opts.states.is_dir():
        freed += sum(s.stat().st_size for s in opts.states.iterdir())
        shutil.rmtree(opts.states)
    print(f"freed {freed / 1e6:.1f} MB")


@cache.command()
def verify(cache: o.Cache = None) -> None:
    """Check the checksum of every stored shard; exit 1 if one differs."""
    from vitbench.tokens.manifest import verify as check

    opts = o.run_options(None, cache, None, None, None)
    problems = check(opts.tokens)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(
        "all parts are complete and unchanged"
        if not problems
        else f"{len(problems)} damaged; `vitbench cache gc` drops them"
    )
    raise typer.Exit(1 if problems else 0)
