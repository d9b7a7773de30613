"""What the planted defects cost a lab ViT, measured on train scenes: the table their default strengths were chosen from.

    python -m vitbench.lab.defects --backbone lab_ssl 'grid[site=late]' 'outliers[share=0.1]' ...

Per defect: k-NN segmentation mIoU, its drop from the clean backbone, and patch accuracy on flagged tokens, as means over
disjoint parts of the train split. The suite's own tasks, on val scenes, say what the defects cost there.

The shipped lab_ssl, two parts, with the defaults it led to (clean 68.81):

| defect | k-NN mIoU | drop | flagged, share | flagged, accuracy clean | planted |
|---|---|---|---|---|---|
| grid[site=input] | 53.65 | 15.16 | 100.00 | 76.40 | 64.95 |
| grid[site=late] | 59.86 | 8.95 | 100.00 | 76.40 | 70.41 |
| grid[site=output] | 60.10 | 8.72 | 100.00 | 76.40 | 70.58 |
| variance | 58.17 | 10.64 | 100.00 | 76.40 | 68.15 |
| outliers | 66.42 | 2.39 | 4.38 | 64.60 | 32.12 |
| diffusion | 63.96 | 4.86 | 100.00 | 76.40 | 73.40 |
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitbench.backbones.base import Backbone
from vitbench.backbones.defects import plant_all
from vitbench.backbones.load import load_backbone
from vitbench.catalogue.tasks.segmentation import HummingbirdSettings
from vitbench.data.scenes import SPLITS, Scene, render
from vitbench.lab.scoring import CONTEXT, scores, stream
from vitbench.tasks.knn_segmentation import KnnSegmentation, Memory
from vitbench.tasks.memory import MemoryStream

MEMORY_SCENES, TEST_SCENES = 80, 40
SETTINGS = HummingbirdSettings(memory_size=10_240)
DEFECTS = ("grid[site=input]", "grid[site=late]", "grid[site=output]", "variance", "outliers", "diffusion")


@dataclass(frozen=True)
class Part:
    """One part of the train split as a backbone sees it: a memory, and the tokens that are measured."""

    memory: Memory
    test: MemoryStream

    def scores(self, flagged_in: Part | None = None) -> dict[str, float]:
        """Segmentation measures in percent; `flagged_accuracy` on the tokens that are flagged in another view of the part."""
        batches = [
            replace(own, tokens=own.tokens.with_field("flags", other.tokens["flags"]))
            for own, other in zip(self.test, (flagged_in or self).test, strict=True)
        ]
        return scores(KnnSegmentation(SETTINGS).measure(self.memory, MemoryStream(batches, "val"), CONTEXT))

    @property
    def flagged(self) -> float:
        """Percent of the measured tokens that are flagged."""
        return 100 * float(np.mean([batch.tokens["flags"].float().mean() for batch in self.test]))


def scenes_of(part: int) -> list[Scene]:
    """The scenes of one part of the train split: those of the memory, then those that are measured."""
    count = MEMORY_SCENES + TEST_SCENES
    return [render(SPLITS["train"][0], index) for index in range(part * count, (part + 1) * count)]


def view_of(backbone: Backbone, scenes: list[Scene]) -> Part:
    """A backbone's tokens of one part."""
    memory = KnnSegmentation(SETTINGS).fit(stream(backbone, scenes[:MEMORY_SCENES]), CONTEXT)
    return Part(memory, stream(backbone, scenes[MEMORY_SCENES:]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("defects", nargs="*", default=DEFECTS)
    parser.add_argument("--backbone", default="lab_ssl")
    parser.add_argument("--weights", default="", help="a safetensors file, where the shipped weights are not meant")
    parser.add_argument("--parts", type=int, default=2)
    options = parser.parse_args(arguments)
    backbone = load_backbone(options.backbone, weights={options.backbone: options.weights} if options.weights else None)
    parts = [scenes_of(part) for part in range(options.parts)]
    clean = [view_of(backbone, scenes) for scenes in parts]
    baseline = _mean(part.scores()["mIoU"] for part in clean)
    _line(f"clean {options.backbone}: mIoU {baseline:.2f}")
    _line("| defect | k-NN mIoU | drop | flagged, share | flagged, accuracy clean | planted |")
    _line("|---|---|---|---|---|---|")
    for defect in options.defects:
        planted = plant_all(backbone, defect)
        seen = [view_of(planted, scenes) for scenes in parts]
        found = [part.scores() for part in seen]
        before = [own.scores(flagged_in=part) for own, part in zip(clean, seen, strict=True)]
        miou = _mean(f["mIoU"] for f in found)
        cells = (
            miou,
            baseline - miou,
            _mean(part.flagged for part in seen),
            _mean(f["flagged_accuracy"] for f in before),
            _mean(f["flagged_accuracy"] for f in found),
        )
        _line(f"| {defect} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
