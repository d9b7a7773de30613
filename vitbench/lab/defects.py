"""What the planted defects cost a lab ViT, measured on train scenes: the table their default strengths were chosen from.

    python -m vitbench.lab.defects --backbone lab_ssl 'grid[site=late]' 'outliers[share=0.1]' ...

Per defect: k-NN segmentation mIoU, its drop from the clean backbone, and patch accuracy on flagged tokens, as means over
disjoint parts of the train split. The suite's own tasks, on val scenes, say what the defects cost there.

The shipped lab_ssl (clean 68.1, two parts; the first two rows 68.6, three parts), with the defaults it led to:

| defect | k-NN mIoU | drop | flagged, share | flagged, accuracy clean | planted |
|---|---|---|---|---|---|
| grid[site=input] | 52.84 | 15.75 | 100.00 | 79.36 | 67.81 |
| grid[site=late] | 59.21 | 9.38 | 100.00 | 79.36 | 73.26 |
| grid[site=output] | 58.60 | 9.52 | 100.00 | 78.92 | 72.70 |
| variance | 56.41 | 11.71 | 100.00 | 78.92 | 70.26 |
| outliers | 65.49 | 2.64 | 4.37 | 69.92 | 35.21 |
| diffusion | 62.48 | 5.64 | 100.00 | 78.92 | 75.81 |
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.defects import plant_all
from vitbench.backbones.load import load_backbone
from vitbench.data.scenes import CLASSES, IGNORE_INDEX, SPLITS, Scene, render
from vitbench.heads.knn import Neighbours, attention_vote, unit
from vitbench.tokens.types import TokenRequest

MEMORY_SCENES, TEST_SCENES = 80, 40
MEMORY_TOKENS, NEIGHBOURS, TEMPERATURE = 10_240, 30, 0.02
BATCH = 10
DEFECTS = ("grid[site=input]", "grid[site=late]", "grid[site=output]", "variance", "outliers", "diffusion")


@dataclass(frozen=True)
class Outcome:
    """k-NN segmentation of one part: mIoU in percent; per test patch whether it is right, counts, and is flagged (n)."""

    miou: float
    right: Tensor
    clear: Tensor
    flags: Tensor

    def accuracy(self, where: Tensor) -> float:
        """Percent of the patches with a majority class that are right, of those in `where` (n)."""
        return 100 * float(self.right[self.clear & where].float().mean())


def scenes_of(part: int) -> list[Scene]:
    """The scenes of one part of the train split: those of the memory, then those that are measured."""
    count = MEMORY_SCENES + TEST_SCENES
    return [render(SPLITS["train"][0], index) for index in range(part * count, (part + 1) * count)]


def measure(backbone: Backbone, scenes: list[Scene], seed: int = 0) -> Outcome:
    """k-NN segmentation by cosine, 30 neighbours, temperature 0.02, soft labels, scored at label resolution."""
    memory, _, shares = _tokens(backbone, scenes[:MEMORY_SCENES])
    known = shares.sum(-1) > 0
    memory, shares = unit(memory[known]), shares[known]
    chosen = torch.randperm(len(memory), generator=torch.Generator().manual_seed(seed))[:MEMORY_TOKENS]
    index, labels = Neighbours(memory[chosen]), shares[chosen]
    tokens, flags, truth = _tokens(backbone, scenes[MEMORY_SCENES:])
    votes = torch.cat([_vote(index, labels, queries) for queries in torch.split(unit(tokens), 8192)])
    clear = truth.max(-1).values > 0.5
    maps = [scene.segmentation for scene in scenes[MEMORY_SCENES:]]
    return Outcome(_miou(votes, maps), votes.argmax(-1) == truth.argmax(-1), clear, flags)


def _vote(index: Neighbours, labels: Tensor, queries: Tensor) -> Tensor:
    similarities, found = index.search(queries, NEIGHBOURS)
    return attention_vote(similarities, labels[found], TEMPERATURE)


def _miou(votes: Tensor, maps: list[npt.NDArray[np.uint8]]) -> float:
    side = round((len(votes) / len(maps)) ** 0.5)
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for grid, labels in zip(votes.reshape(len(maps), side, side, -1), maps, strict=True):
        logits = F.interpolate(grid.permute(2, 0, 1)[None], labels.shape, mode="bilinear")[0]
        seen = labels != IGNORE_INDEX
        pairs = labels[seen].astype(np.int64) * len(CLASSES) + logits.argmax(0).numpy()[seen]
        confusion += np.bincount(pairs, minlength=confusion.size).reshape(confusion.shape)
    hit = confusion.diagonal()
    return 100 * float((hit / np.maximum(confusion.sum(0) + confusion.sum(1) - hit, 1)).mean())


def _tokens(backbone: Backbone, scenes: list[Scene]) -> tuple[Tensor, Tensor, Tensor]:
    """Patch tokens n c, flags n, and class shares n m of all patches of some scenes."""
    tokens, flags = [], []
    for first in range(0, len(scenes), BATCH):
        images = [scene.image for scene in scenes[first : first + BATCH]]
        keys = [f"{first + i}" for i in range(len(images))]
        found = backbone.tokens(images, TokenRequest(("patch", "flags")), keys)
        tokens.append(found["patch"].float().flatten(0, 2).cpu())
        flags.append(found["flags"].flatten().cpu())
    shares = [_patch_shares(scene.segmentation, backbone.card.patch_px) for scene in scenes]
    return torch.cat(tokens), torch.cat(flags), torch.cat(shares)


def _patch_shares(segmentation: npt.NDArray[np.uint8], patch_px: int) -> Tensor:
    """h w -> n m: the share of each class in a patch; ignored pixels count for none."""
    h, w = segmentation.shape[0] // patch_px, segmentation.shape[1] // patch_px
    cells = segmentation.reshape(h, patch_px, w, patch_px).transpose(0, 2, 1, 3).reshape(h * w, -1)
    return torch.from_numpy(np.stack([(cells == c).mean(1) for c in range(len(CLASSES))], axis=1).astype(np.float32))


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
    clean = [measure(backbone, scenes) for scenes in parts]
    _line(f"clean {options.backbone}: mIoU {_mean(c.miou for c in clean)}")
    _line("| defect | k-NN mIoU | drop | flagged, share | flagged, accuracy clean | planted |")
    _line("|---|---|---|---|---|---|")
    for defect in options.defects:
        planted = plant_all(backbone, defect)
        pairs = list(zip(clean, [measure(planted, scenes) for scenes in parts], strict=True))
        cells = (
            _mean(p.miou for _, p in pairs),
            _mean(c.miou - p.miou for c, p in pairs),
            _mean(100 * float(p.flags.float().mean()) for _, p in pairs),
            _mean(c.accuracy(p.flags) for c, p in pairs),
            _mean(p.accuracy(p.flags) for _, p in pairs),
        )
        _line(f"| {defect} | {' | '.join(cells)} |")


def _mean(values: Iterable[float]) -> str:
    return f"{float(np.mean(list(values))):.2f}"


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
