"""Does the statistics stay out of the way: the bootstrap of a large segmentation cell, ranks and tables of many records."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.figures import Figure, best_of, run_command
from vitbench.metrics import measures
from vitbench.records.index import Loaded, load
from vitbench.records.inference import summarise
from vitbench.records.rows import Rows
from vitbench.reports.leaderboard import build

IMAGES, CLASSES, DRAWS = 2000, 150, 1000


def measure() -> list[Figure]:
    return [*_bootstrap(), *_comparing(), *_many()]


def _bootstrap() -> list[Figure]:
    rng = np.random.default_rng(0)
    units = tuple(f"image-{i}" for i in range(IMAGES))
    stats = {name: rng.integers(0, 5000, (IMAGES, CLASSES)).astype(np.float64) for name in ("tp", "fp", "fn")}
    miou = [m for m in measures("segmentation") if m.name == "mIoU"]
    rows = Rows(units, units, stats)
    seconds = best_of(lambda: summarise(rows, miou, draws=DRAWS))
    return [Figure(f"{DRAWS} draws of {IMAGES} images x {CLASSES} classes", seconds, "s", "<= 1 s")]


def _comparing() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        for side, shift in (("a", 0.0), ("b", 0.6)):
            write_records(Path(folder) / side, 10, 10, 10, shift)
        seconds = min(
            run_command(["compare", f"{folder}/a", f"{folder}/b", "--fail-on", "none"]).seconds for _ in range(3)
        )
    return [Figure("compare 1,000 records with 1,000", seconds, "s", "<= 1.5 s")]


def _many() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VITBENCH_CACHE"] = f"{folder}/cache"
        root = Path(folder) / "runs"
        write_records(root, 100, 30, 20)
        started = time.perf_counter()
        load(root)
        cold = time.perf_counter() - started
        loaded: list[Loaded] = []
        warm = best_of(lambda: loaded.append(load(root)))
        entries = loaded[-1].entries
        one = tuple(e for e in entries if e.slot.task == entries[0].slot.task)
        table = best_of(lambda: build(Loaded(one)))
        whole = best_of(lambda: build(loaded[-1]), 1)
        typed, narrowed, alone = (
            min(run_command(["leaderboard", "--records", str(root), *more]).seconds for _ in range(2))
            for more in ([], ["-t", one[0].slot.task], ["-b", one[0].slot.backbone])
        )
    return [
        Figure(f"reading {len(entries)} records, first time", cold, "s", "<= 5 s"),
        Figure(f"index of {len(entries)} records", warm, "s", "<= 5 s"),
        Figure(f"table of {len(one)} of them", table, "s", "<= 2 s"),
        Figure("all 20 tables of them", whole, "s", ""),
        Figure("`vitbench leaderboard` over all of them, index included", typed, "s", ""),
        Figure("`vitbench leaderboard -t` of one table, index included", narrowed, "s", ""),
        Figure("`vitbench leaderboard -b` of one backbone in all tables, index included", alone, "s", ""),
    ]


def write_records(root: Path, backbones: int, repairs: int, tasks: int, shift: float = 0.0) -> None:
    """Made-up records of a full cross, whose units' difficulty is shared by all cells."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 0.6, DRAWS)
    for i, (slot, value) in enumerate(_cells(backbones, repairs, tasks)):
        score = value + shift * (i % 7 == 0)
        draws = (score + shared + rng.normal(0, 0.3, DRAWS)).astype("<f4")
        folder = root / slot["backbone"] / slot["repair"] / slot["task"]
        folder.mkdir(parents=True)
        document = _document(slot, score, base64.b64encode(draws.tobytes()).decode(), shift)
        name = f"scenes-s0-{document['identity']}.json"
        (folder / name).write_text(json.dumps(document, indent=1) + "\n")


def _cells(backbones: int, repairs: int, tasks: int) -> Iterator[tuple[dict[str, Any], float]]:
    for b in range(backbones):
        for r in range(repairs):
            for t in range(tasks):
                repair = "none" if r == 0 else f"center[x={r}]"
                task = f"knn_segmentation@hummingbird[k={10 + t}]"
                slot = {"backbone": f"timm:model_{b}", "repair": repair, "task": task, "dataset": "scenes", "seed": 0}
                yield slot, 50 + 10 * float(np.sin(b)) + 0.5 * float(np.cos(7 * r + b)) + t


def _document(slot: dict[str, Any], value: float, draws: str, version: float) -> dict[str, Any]:
    components = {
        "backbone": {"name": slot["backbone"], "digest": f"{version}"},
        "task": {"name": slot["task"], "version": 1, "settings": {"field": "patch", "image_px": 448}},
        "data": {"name": "scenes", "splits": {"train": "0123", "val": "4567"}},
    }
    metric = {"value": value, "unit": "%", "higher_is_better": True, "ci_low": value - 1, "ci_high": value + 1, "n": 80}
    return {
        "schema_version": 1,
        "slot": slot,
        "identity": hashlib.sha256(json.dumps([slot, version]).encode()).hexdigest()[:16],
        "status": "ok",
        "headline": "mIoU",
        "metrics": {"mIoU": metric},
        "cost": {"seconds": {"pass": 20.0}, "forwards": 280, "forwards_per_image": 1.0, "peak_memory_bytes": 1 << 30},
        "components": components,
        "provenance": {"utc": "2026-01-01T00:00:00Z", "commit": "c", "device": "cpu", "platform": "Linux"},
        "draws_key": "0123456789abcdef",
        "draws": {"mIoU": draws},
    }
