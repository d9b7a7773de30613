"""How long it takes to list a data set, and to open it again: empty files in the layouts of ADE20K and ImageNet."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.speed.figures import Figure
from vitbench.catalogue import DATASETS
from vitbench.data.layout import describe_split, open_split

IMAGES, CLASSES = 20_210, 1_000
LABELLED = 100 * CLASSES


def measure() -> list[Figure]:
    import datasets  # noqa: F401 - seconds of import that are nobody's index

    before = os.environ.get("VITBENCH_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VITBENCH_CACHE"] = str(Path(folder) / "cache")
        try:
            _write(Path(folder))
            return [
                *_figures("ade20k", "segmentation", IMAGES, Path(folder)),
                *_figures("imagenet1k", "label", LABELLED, Path(folder)),
            ]
        finally:
            os.environ.pop("VITBENCH_CACHE") if before is None else os.environ.update(VITBENCH_CACHE=before)


def _write(root: Path) -> None:
    for kind, suffix in (("images", "jpg"), ("annotations", "png")):
        place = root / "ADEChallengeData2016" / kind / "training"
        place.mkdir(parents=True)
        for i in range(IMAGES):
            (place / f"ADE_train_{i:08d}.{suffix}").touch()
    for c in range(CLASSES):
        place = root / f"imagenet/train/n{c:08d}"
        place.mkdir(parents=True)
        for i in range(LABELLED // CLASSES):
            (place / f"n{c:08d}_{i}.JPEG").touch()


def _figures(name: str, target: str, count: int, root: Path) -> list[Figure]:
    card = replace(DATASETS.get(name), splits={"train": count})
    layout = DATASETS.load(name)
    seconds = []
    for act in (describe_split, describe_split, open_split):
        started = time.perf_counter()
        act(layout, card, "train", (target,), None, 0, root)
        seconds.append(time.perf_counter() - started)
    words = ("first index of", "described again,", "opened again,")
    targets = ("< 10", "< 1", "< 1")
    return [
        Figure(f"{word} {count:,} images ({name})", value, "s", limit)
        for word, value, limit in zip(words, seconds, targets, strict=True)
    ]
