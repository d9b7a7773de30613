"""Decoding JPEGs of 500 x 375 by processes against threads: throughput, what starting costs, memory at 1x and 4x.

What is made of them: what a pass asks for (resized), and what streams ask for in every step (scaled, cropped, coloured).

The pictures are lab scenes with some noise, so that their files are of the size of photographs.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from benchmarks.speed.figures import Figure, interleaved
from vitbench.catalogue.tasks.streaming import StreamSettings
from vitbench.catalogue.views import View
from vitbench.data.augment import SegmentationAugment
from vitbench.data.scenes import render
from vitbench.engine.decoders import MANY, Decoders
from vitbench.engine.options import RunOptions
from vitbench.engine.streams import Samples
from vitbench.jobs import SplitRef
from vitbench.tasks.crops import LabelledCrop, SegmentationCrop
from vitbench.tasks.training import drawn

IMAGES, DISTINCT, BATCH = 1_024, 20, 16
VIEW, PATCH = View("resize", 518), 14


@dataclass(frozen=True)
class Asked:
    """One use of images: what is made of how many, and how many a second at least."""

    name: str
    images: int
    targets: tuple[str, ...]
    sweep: Callable[[Samples, int], int]

    def run(self, folder: str, count: int, decoders: Decoders) -> None:
        """Take so many images of a split that is opened anew, as nothing is kept of another run."""
        ref = SplitRef(
            f"folder:{folder}", "val", self.targets, min(count, IMAGES), 0, count, "", pictures=self._pictures
        )
        assert self.sweep(Samples(ref, None, decoders), count) == count

    @property
    def _pictures(self) -> str:
        return "" if self.targets else "known"


def _placed(samples: Samples, _count: int) -> int:
    return sum(len(views) for _, views in samples.placed(VIEW, PATCH))


def _cropped(make: Callable[..., Any]) -> Callable[[Samples, int], int]:
    def sweep(samples: Samples, count: int) -> int:
        settings = StreamSettings(iterations=count // BATCH, batch=BATCH)
        return sum(1 for _ in samples.prepared(drawn(samples.keys, settings, 0, 0), make, 2 * BATCH, True))

    return sweep


CROPS = SegmentationCrop(SegmentationAugment(512, 2048, 512), 256, PATCH)
USES = (
    Asked("decode and resize", IMAGES, (), _placed),
    Asked("crops of 512 px with labels", 320, ("segmentation",), _cropped(CROPS)),
    Asked("crops of 224 px for classifiers", IMAGES, ("label",), _cropped(LabelledCrop(224, 1_000, PATCH))),
)


def measure() -> list[Figure]:
    cores = RunOptions(workers=0).cores_per_worker()
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder))
        threads, processes = Decoders(0, cores), Decoders(cores, cores)
        try:
            return [figure for use in USES for figure in _compared(use, folder, cores, threads, processes)]
        finally:
            processes.close()


def _compared(use: Asked, folder: str, cores: int, threads: Decoders, processes: Decoders) -> list[Figure]:
    processes.close()
    use.run(folder, use.images // 4, threads)  # imports, indexes, and grows the heaps that threads keep
    memory = _memory(use, folder, "threads", threads)  # before there are processes
    started = time.perf_counter()
    use.run(folder, BATCH, processes)
    start = time.perf_counter() - started
    slow, fast = interleaved(
        lambda: use.run(folder, use.images, threads), lambda: use.run(folder, use.images, processes), times=3
    )
    return [
        Figure(f"{use.name} by threads, {cores} cores", use.images / slow, "images/s", ""),
        Figure(f"{use.name} by processes, {cores} cores", slow / fast, "of threads", ">= 1 from 4 cores on"),
        Figure("first images of processes just started", start, "s", ""),
        Figure("images that threads make in that time", start * use.images / slow, "images", f"< {MANY}"),
        *memory,
        *_memory(use, folder, "processes", processes),
    ]


def _memory(use: Asked, folder: str, name: str, decoders: Decoders) -> list[Figure]:
    small, large = (_peak(use, folder, count, decoders) for count in (use.images // 4, use.images))
    return [
        Figure(f"{use.name} by {name}, peak memory", large / 1e6, "MB", ""),
        Figure(f"{use.name} by {name}, peak memory at 4 x the images", large / small, "of that at 1 x", "about 1"),
    ]


def _write(root: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["file,label"]
    for kind in ("images", "masks"):
        (root / "val" / kind).mkdir(parents=True)
    for i in range(IMAGES):
        picture, mask = root / f"val/images/{i:05d}.jpg", root / f"val/masks/{i:05d}.png"
        lines.append(f"{i:05d}.jpg,{i % 10}")
        if i < DISTINCT:
            scene = render(7, i, 500)
            noisy = np.clip(scene.image[:375].astype(np.int16) + rng.normal(0, 6, (375, 500, 3)), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(picture, quality=90)
            Image.fromarray(scene.segmentation[:375].astype(np.uint8)).save(mask)
        else:
            for path in (picture, mask):
                path.write_bytes(path.with_stem(f"{i % DISTINCT:05d}").read_bytes())
    (root / "val/labels.csv").write_text("\n".join(lines))


@dataclass
class _Most:
    bytes: int = 0


def _peak(use: Asked, folder: str, count: int, decoders: Decoders) -> int:
    with _watched() as most:
        use.run(folder, count, decoders)
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
