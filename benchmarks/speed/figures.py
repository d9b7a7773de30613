"""A measured figure, and the ways of measuring that the modules share."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str
    target: str

    @property
    def text(self) -> str:
        return f"{self.value:.3g} {self.unit}".strip()


def best_of(run: Callable[[], object], times: int = 3) -> float:
    """Seconds of the fastest of a few runs."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def interleaved(a: Callable[[], object], b: Callable[[], object], times: int = 5) -> tuple[float, float]:
    """Fastest seconds of two runs taken in turns, so that a noisy machine is noisy for both."""
    first, second = float("inf"), float("inf")
    for _ in range(times):
        first = min(first, best_of(a, 1))
        second = min(second, best_of(b, 1))
    return first, second


@dataclass
class Usage:
    """Of a command: seconds, exit code, and the peak memory of its process tree.

    `resident` counts pages that processes share once each (PSS); `resident_sum` counts them in every process (RSS).
    """

    seconds: float = 0.0
    code: int = 0
    resident: int = 0
    resident_sum: int = 0
    output: str = field(default="", repr=False)


def run_command(arguments: list[str], **environment: str) -> Usage:
    """Run `vitbench ARGUMENTS` in a process of its own and watch its memory."""
    import os

    usage = Usage()
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "vitbench.cli", *arguments],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, usage, done))
    watcher.start()
    usage.output, _ = process.communicate()
    usage.seconds, usage.code = time.perf_counter() - started, process.returncode
    done.set()
    watcher.join()
    return usage


def _watch(pid: int, usage: Usage, done: threading.Event) -> None:
    while not done.wait(0.5):
        try:
            root = psutil.Process(pid)
            tree = [root, *root.children(recursive=True)]
            full = [p.memory_full_info() for p in tree]
        except psutil.Error:
            continue
        usage.resident = max(usage.resident, sum(m.pss for m in full))
        usage.resident_sum = max(usage.resident_sum, sum(m.rss for m in full))
