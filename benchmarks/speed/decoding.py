"""Decoding and resizing JPEGs of 500 x 375 by processes against threads: throughput, what starting costs, memory at 1x and 4x.

The pictures are lab scenes with some noise, so that their files are of the size of photographs.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks.speed.figures import Figure, interleaved
from vitbench.catalogue.views import View
from vitbench.data.scenes import render
from vitbench.engine.decoders import MANY, Decoders
from vitbench.engine.options import RunOptions
from vitbench.engine.streams import Samples
from vitbench.jobs import SplitRef

IMAGES, DISTINCT = 1_000, 20
VIEW, PATCH = View("resize", 518), 14


def measure() -> list[Figure]:
    cores = RunOptions(workers=0).cores_per_worker()
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder))
        threads, processes = Decoders(0, cores), Decoders(cores, cores)
        try:
            _sweep(folder, 1, threads)  # imports and indexes
            started = time.perf_counter()
            _sweep(folder, 1, processes)
            start = time.perf_counter() - started
            slow, fast = interleaved(
                lambda: _sweep(folder, IMAGES, threads), lambda: _sweep(folder, IMAGES, processes), times=2
            )
            figures = [
                Figure(f"decode and resize by threads, {cores} cores", IMAGES / slow, "images/s", ""),
                Figure(
                    f"decode and resize by processes, {cores} cores", slow / fast, "of threads", ">= 1 from 4 cores on"
                ),
                Figure("first image of processes just started", start, "s", ""),
                Figure("images that threads decode in that time", start * IMAGES / slow, "images", f"< {MANY}"),
            ]
            for name, decoders in (("threads", threads), ("processes", processes)):
                small, large = (_peak(folder, count, decoders) for count in (IMAGES // 4, IMAGES))
                figures.append(Figure(f"decoding by {name}, peak memory", large / 1e6, "MB", ""))
                figures.append(
                    Figure(
                        f"decoding by {name}, peak memory at 4 x the images", large / small, "of that at 1 x", "about 1"
                    )
                )
            return figures
        finally:
            processes.close()


def _write(root: Path) -> None:
    place = root / "val/images"
    place.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(DISTINCT):
        scene = render(7, i, 500).image[:375].astype(np.int16)
        noisy = np.clip(scene + rng.normal(0, 6, scene.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(place / f"{i:05d}.jpg", quality=90)
    for i in range(DISTINCT, IMAGES):
        (place / f"{i:05d}.jpg").write_bytes((place / f"{i % DISTINCT:05d}.jpg").read_bytes())


def _sweep(folder: str, count: int, decoders: Decoders) -> None:
    limit = None if count == IMAGES else count
    samples = Samples(SplitRef(f"folder:{folder}", "val", (), limit, 0, count, "", pictures="known"), None, decoders)
    assert sum(len(views) for _, views in samples.placed(VIEW, PATCH)) == count


@dataclass
class _Most:
    bytes: int = 0


def _peak(folder: str, count: int, decoders: Decoders) -> int:
    with _watched() as most:
        _sweep(folder, count, decoders)
    return most.bytes


@contextmanager
def _watched() -> Iterator[_Most]:
    """The most memory that this process and those below it hold at once; shared pages count once."""
    most, done = _Most(), threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not done.wait(0.1):
            tree = [me, *me.children(recursive=True)]
            most.bytes = max(most.bytes, sum(p.memory_full_info().pss for p in tree))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()
