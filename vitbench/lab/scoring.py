"""The suite's own tasks on tokens of a few scenes, held in memory: for measurements that need no cache and no record."""

from __future__ import annotations

from collections.abc import Sequence

from vitbench.backbones.base import Backbone
from vitbench.catalogue.datasets import SCENES
from vitbench.data.scenes import Scene
from vitbench.metrics import measures
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, TaskContext
from vitbench.tasks.memory import MemoryStream
from vitbench.tokens.types import TokenRequest, Tokens

BATCH = 10
CONTEXT = TaskContext(SCENES, seed=0)


def stream(backbone: Backbone, scenes: Sequence[Scene]) -> MemoryStream:
    """Patch tokens (float32) and flags of scenes, and their segmentations; the keys are their positions."""
    batches = []
    for first in range(0, len(scenes), BATCH):
        part = scenes[first : first + BATCH]
        keys = [str(first + i) for i in range(len(part))]
        found = backbone.tokens([scene.image for scene in part], TokenRequest(("patch", "flags")), keys)
        fields = {"patch": found["patch"].float().cpu(), "flags": found["flags"].cpu()}
        targets = [{"segmentation": scene.segmentation} for scene in part]
        batches.append(Batch(Tokens(fields, found.geometry, found.keys), targets))
    return MemoryStream(batches)


def scores(rows: Rows) -> dict[str, float]:
    """Every measure of segmentation, in percent: `mIoU`, `mIoU_objects`, `patch_accuracy`, `flagged_accuracy`, ..."""
    sums = rows.sums()
    return {measure.name: float(measure.value(sums, rows.info)) for measure in measures("segmentation")}
