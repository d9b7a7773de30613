"""Processes that a test leaves to end: which of them still run after a generous while."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil


def left(processes: Iterable[psutil.Process], seconds: float = 120) -> list[psutil.Process]:
    """Those that do not end.

    A zombie has ended: in a container whose first process waits for nobody, an orphan stays one for ever.
    """
    alive, until = list(processes), time.monotonic() + seconds
    while (alive := [one for one in alive if runs(one)]) and time.monotonic() < until:
        time.sleep(0.05)
    return alive


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
