"""Quick dense probes for the training log: linear and k-NN segmentation on patch tokens of a few held-out scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from vitbench.backbones.base import Backbone
from vitbench.catalogue.tasks.segmentation import HummingbirdSettings, RidgeSegmentationSettings
from vitbench.data.scenes import Scene, render
from vitbench.lab.pool import PROBE_START, TRAIN_SEED
from vitbench.lab.scoring import CONTEXT, scores, stream
from vitbench.tasks.base import Task
from vitbench.tasks.knn_segmentation import KnnSegmentation
from vitbench.tasks.linear_segmentation import LinearSegmentation
from vitbench.tasks.memory import MemoryStream

TRAIN_SCENES, TEST_SCENES = 80, 32
MEMORY_TOKENS = 20_000


def probe_scenes(count: int = TRAIN_SCENES + TEST_SCENES, size: int = 192) -> list[Scene]:
    """Scenes for the log, outside the pool and outside every split."""
    return [render(TRAIN_SEED, index, size) for index in range(PROBE_START, PROBE_START + count)]


def probe(backbone: Backbone, scenes: Sequence[Scene], train: int = TRAIN_SCENES) -> dict[str, float]:
    """mIoU in percent of both heads, over all classes and over objects: `ridge`, `ridge_objects`, `knn`, `knn_objects`.

    The first `train` scenes fit the heads, the others measure them.
    """
    with torch.autocast("cpu", torch.bfloat16):
        seen, held_out = stream(backbone, scenes[:train]), stream(backbone, scenes[train:])
    tasks: dict[str, Task[Any]] = {
        "ridge": LinearSegmentation(RidgeSegmentationSettings()),
        "knn": KnnSegmentation(HummingbirdSettings(memory_size=MEMORY_TOKENS)),
    }
    result: dict[str, float] = {}
    for name, task in tasks.items():
        found = scores(task.measure(task.fit(seen, CONTEXT), MemoryStream(held_out.batches, "val"), CONTEXT))
        result |= {name: round(found["mIoU"], 2), f"{name}_objects": round(found["mIoU_objects"], 2)}
    return result
