"""`vitbench doctor`: what this machine has, and what would stop a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys

import typer

from vitbench.cli import options as o


def doctor(records: o.Records = None, cache: o.Cache = None, data_root: o.DataRoot = None) -> None:
    """Check versions, device, disk, folders, shipped weights and suites; exit 1 if something would stop a run."""
    opts = o.run_options(records, cache, data_root, None, None)
    problems: list[str] = []
    print(
        f"python {platform.python_version()} on {platform.system()} {platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    )
    for package in ("vitbench", "torch", "timm", "datasets", "faiss-gpu", "faiss-cpu", "scikit-learn", "pandas"):
        try:
            print(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            if not package.startswith("faiss"):
                problems.append(f"{package} is not installed")
    problems += _device() + _folders(opts.records, opts.cache) + _shipped()
    print(f"data root: {opts.data_root or 'none (--data-root, VITBENCH_DATA or vitbench.toml)'}")
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    print("all good" if not problems else f"{len(problems)} problems")
    raise typer.Exit(1 if problems else 0)


def _device() -> list[str]:
    try:
        import torch
    except ImportError as error:
        return [f"torch does not import: {error}"]
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        return [f"faiss does not import: {error}"]
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print("device: " + (", ".join(names) if names else f"CPU, {torch.get_num_threads()} threads"))
    return []


def _folders(*folders: object) -> list[str]:
    from pathlib import Path

    problems = []
    for folder in map(Path, map(str, folders)):
        existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        free = shutil.disk_usage(existing).free
        print(f"{folder}: {free / 1e9:.0f} GB free")
        if not os.access(existing, os.W_OK):
            problems.append(f"{folder} is not writable")
        elif free < 2e9:
            problems.append(f"{folder} has only {free / 1e9:.1f} GB free")
    return problems


def _shipped() -> list[str]:
    from vitbench import catalogue
    from vitbench.paths import PACKAGE
    from vitbench.suite import load_suite, suite_names

    suites = suite_names()
    for name in suites:
        load_suite(name)
    lab = [c for c in catalogue.BACKBONES if c.kind == "lab"]
    missing = [c.name for c in lab if not (PACKAGE / "backbones" / "weights" / f"{c.name}.safetensors").is_file()]
    print(f"suites: {', '.join(suites)}; lab weights: {len(lab) - len(missing)} of {len(lab)}")
    return [f"weights of {name} are not shipped with this install" for name in missing]
