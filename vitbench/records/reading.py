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
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from typing import IO, cast

from pydantic_core import to_json

from vitbench.errors import RecordError
from vitbench.paths import PACKAGE
from vitbench.records.collector import collector_paused
from vitbench.records.summaries import summarised

Read = tuple[bytes, bytes]
"""Summary of a record (or a problem, which is a text) as JSON, and the headline's replicates as float32."""

SHARED = 8000  # fewer files than this are read sooner than helpers start
_MOST = 8


@collector_paused()
def read_many(paths: Iterable[str]) -> dict[str, Read]:
    """What tables need of each file; of a file that is no record, why.

    paths may still be on their way, such as those of a folder being listed: helpers start up meanwhile.
    """
    coming = iter(paths)
    known = list(islice(coming, SHARED))
    helpers = min(_cores(), _MOST) - 1 if len(known) >= SHARED else 0
    if helpers < 1:
        return {path: read_one(path) for path in (*known, *coming)}
    with ExitStack() as stack:
        started = [_start(stack) for _ in range(helpers)]
        known.extend(coming)
        shares = [known[i :: helpers + 1] for i in range(helpers + 1)]
        for (process, _), share in zip(started, shares[1:], strict=True):
            _ask(process, share)
        found = {path: read_one(path) for path in shares[0]}
        for (process, told), share in zip(started, shares[1:], strict=True):
            found.update(zip(share, _finish(process, told, share), strict=True))
    return found


def _cores() -> int:
    """The cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_one(path: str) -> Read:
    """What tables need of one file."""
    try:
        summary, draws = summarised(path)
    except RecordError as error:
        return to_json(str(error)), b""
    return to_json(summary), draws


def _start(stack: ExitStack) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """A helper that waits for its share, and the file that its answer goes to: a pipe would hold it up."""
    told = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack is the context
    search = os.pathsep.join(filter(None, (str(PACKAGE.parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": search}
    # -P: another checkout in the current folder is not this one.
    command = [sys.executable, "-P", "-m", "vitbench.records.reading"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=told, env=environment)
    return stack.enter_context(process), told


def _ask(process: subprocess.Popen[bytes], share: Sequence[str]) -> None:
    with suppress(BrokenPipeError), cast(IO[bytes], process.stdin) as asked:  # that one died shows in its exit code
        pickle.dump(share, asked)


def _finish(process: subprocess.Popen[bytes], told: IO[bytes], share: Sequence[str]) -> list[Read]:
    if process.wait() != 0:  # killed, or no memory: what it had to do is done here
        return [read_one(path) for path in share]
    told.seek(0)
    found: list[Read] = pickle.load(told)
    return found


if __name__ == "__main__":
    with collector_paused():
        pickle.dump([read_one(path) for path in pickle.load(sys.stdin.buffer)], sys.stdout.buffer)
