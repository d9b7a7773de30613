"""Where a number comes from: code, versions, machine, command and time. Nothing here changes a number's identity."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import vitbench
from vitbench.paths import PACKAGE

_PACKAGES = ("torch", "timm", "numpy", "scikit-learn", "datasets", "faiss-gpu", "faiss-cpu")


def collect(
    command_line: Sequence[str], settings: Mapping[str, Any], device: str = "cpu", driver: str = ""
) -> dict[str, Any]:
    """The provenance of a run. `device` and `driver` are passed in, so that this imports no torch."""
    commit, dirty = git_state()
    return {
        "commit": commit,
        "dirty": dirty,
        "versions": versions(),
        "device": device,
        "driver": driver,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "command_line": list(command_line),
        "settings": dict(settings),
        "utc": utc_now(),
    }


def utc_now() -> str:
    """The time in UTC, ISO 8601 with microseconds: sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def versions() -> dict[str, str]:
    """Versions of python, vitbench and what numbers depend on, without importing any of them."""
    found = {"python": platform.python_version(), "vitbench": vitbench.__version__}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    """Model and number of cores, so that times are only compared on equal machines; empty where it is not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model} x{os.cpu_count()}" if model else platform.processor()


@cache  # asked once a process: it is the state that the code was loaded in, and a fork of a large process is not free
def git_state() -> tuple[str, bool | None]:
    """Commit and dirty flag of the checkout vitbench runs from; ("", None) for an installed wheel or without git."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return "", None
    head, status = ["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]
    try:
        commit, changes = (
            subprocess.run(
                ["git", "--no-optional-locks", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=20,
            ).stdout.strip()
            for arguments in (head, status)
        )
    except (OSError, subprocess.SubprocessError):
        return "", None
    return commit, bool(changes)
