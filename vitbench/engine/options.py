"""What a run is told, beside what to run: folders, devices, budgets. Picklable, so that workers get the same."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from vitbench.catalogue.series import expand_series
from vitbench.errors import UsageError
from vitbench.paths import cache_dir


@dataclass(frozen=True)
class RunOptions:
    """None of these changes a number: they are not part of any identity."""

    records: Path = Path("runs")
    cache: Path = field(default_factory=cache_dir)
    data_root: Path | None = None
    weights: tuple[tuple[str, str], ...] = ()
    plugins: tuple[str, ...] = ()
    device: str = "auto"
    offline: bool = False
    workers: int | None = None  # None: one per GPU, else one per two... see `worker_count`
    decoders: int | None = None  # processes that decode images, per worker; 0: threads; None: see `Decoders`
    cache_budget: int | None = None
    timeout_s: float | None = None
    command: tuple[str, ...] = ()

    @property
    def tokens(self) -> Path:
        return self.cache / "tokens"

    @property
    def states(self) -> Path:
        return self.cache / "states"

    def worker_count(self) -> int:
        """One worker per CPU core that this process may use, at most four (memory), unless told otherwise."""
        if self.workers is not None:
            return self.workers
        return max(min(len(os.sched_getaffinity(0)), 4), 1)

    def decoder_count(self) -> int | None:
        """Processes that decode, per worker; None: to be chosen. Where all runs in this process, none is started unasked."""
        return 0 if self.decoders is None and self.workers == 0 else self.decoders

    def cores_per_worker(self) -> int:
        """CPU cores that one worker may count on."""
        return max(len(os.sched_getaffinity(0)) // max(self.worker_count(), 1), 1)


def parse_weights(items: list[str]) -> tuple[tuple[str, str], ...]:
    """`NAME=PATH` as given on the command line; `NAME@{step}=...{step}...` gives one entry per checkpoint found."""
    out: list[tuple[str, str]] = []
    for item in items:
        name, equals, path = item.partition("=")
        if not equals or not name or not path:
            raise UsageError(f"--weights {item!r}", "it needs the form NAME=PATH")
        if "[" in name:
            raise UsageError(f"--weights {item!r}", "write the name without brackets: one file serves all parameters")
        out += expand_series(name, path)
    return tuple(out)


def parse_bytes(text: str | None) -> int | None:
    """`20GB`, `500 MB`, `1e9` -> bytes."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([\d.]+(?:e\d+)?)\s*([kmgt]?i?b?)\s*", text.lower())
    if not match:
        raise UsageError(f"{text!r} is not a size", "write for example 20GB or 500MB")
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2][:1].replace("b", "") or " "))
