"""Many record files at once: by this process, or where there are thousands by helpers of it, one per core.

Helpers are plain processes that run this module, not `multiprocessing`: a caller's script is not imported again, so it
needs no guard. `python -m vitbench.records.reading` takes paths on stdin and pickles what it made of them to stdout.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

from pydantic_core import to_json

from vitbench.errors import RecordError
from vitbench.paths import PACKAGE
from vitbench.records.summaries import summarised

Read = tuple[bytes, bytes]
"""Summary (or problem) of a record as JSON, and the headline's replicates as float32."""

SHARED = 4000  # fewer files than this are read sooner than helpers start
_MOST = 8


def read_many(paths: Sequence[str]) -> list[Read]:
    """What tables need of each file, in order; a file that is no record gives `{"problem": ...}`."""
    helpers = min(_cores(), _MOST) - 1 if len(paths) >= SHARED else 0
    if helpers < 1:
        return [read_one(path) for path in paths]
    shares = [paths[i :: helpers + 1] for i in range(helpers + 1)]
    with ExitStack() as stack:
        started = [_start(share, stack) for share in shares[1:]]
        made = [[read_one(path) for path in shares[0]]]
        made += [_finish(*one, share) for one, share in zip(started, shares[1:], strict=True)]
    out: list[Read] = [(b"", b"")] * len(paths)
    for i, share in enumerate(made):
        out[i :: helpers + 1] = share
    return out


def _cores() -> int:
    """The cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_one(path: str) -> Read:
    """What tables need of one file."""
    try:
        summary, draws = summarised(path)
    except RecordError as error:
        summary, draws = {"problem": str(error)}, b""
    return to_json(summary), draws


def _start(share: Sequence[str], stack: ExitStack) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """A helper on its way; files instead of pipes, so that nobody waits for anybody."""
    asked = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack is the context
    told = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    pickle.dump(list(share), asked)
    asked.seek(0)
    search = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "vitbench.records.reading"]
    process = subprocess.Popen(command, stdin=asked, stdout=told, env={**os.environ, "PYTHONPATH": search})
    return stack.enter_context(process), told


def _finish(process: subprocess.Popen[bytes], told: IO[bytes], share: Sequence[str]) -> list[Read]:
    if process.wait() != 0:  # killed, or no memory: what it had to do is done here
        return [read_one(path) for path in share]
    told.seek(0)
    found: list[Read] = pickle.load(told)
    return found


if __name__ == "__main__":
    pickle.dump([read_one(path) for path in pickle.load(sys.stdin.buffer)], sys.stdout.buffer)
