"""Quick dense probes for the training log: ridge and k-NN segmentation on patch tokens.

The suite's own tasks decide what a backbone is worth; these only show whether a training is learning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.eva import Eva
from torch import Tensor

from vitbench.data.scenes import CLASSES, IGNORE_INDEX, OBJECT_CLASSES, Scene, render
from vitbench.lab.objectives import patch_shares
from vitbench.lab.pool import PROBE_START, TRAIN_SEED, normalise

Features = Callable[[Tensor], Tensor]  # images b 3 s s in 0 to 1 -> b g g c


@dataclass(frozen=True)
class ProbeScenes:
    """Labelled scenes: the first `train` ones fit the heads, the others measure them."""

    images: Tensor  # n 3 s s, 0 to 1
    segmentation: Tensor  # n s s
    train: int


def stack_scenes(scenes: list[Scene], train: int) -> ProbeScenes:
    """Scenes of one size as tensors."""
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2).float() / 255
    return ProbeScenes(images, torch.from_numpy(np.stack([scene.segmentation for scene in scenes])).long(), train)


def probe_scenes(train: int = 80, held_out: int = 32, size: int = 192) -> ProbeScenes:
    """Scenes for the log, outside the pool and outside every split."""
    indices = range(PROBE_START, PROBE_START + train + held_out)
    return stack_scenes([render(TRAIN_SEED, index, size) for index in indices], train)


def vit_features(model: Eva) -> Features:
    """Patch tokens behind the final norm."""

    def features(images: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            tokens: Tensor = model.forward_features(normalise(images))[:, model.num_prefix_tokens :].float()
        side = round(tokens.shape[1] ** 0.5)
        return tokens.reshape(len(images), side, side, tokens.shape[2])

    return features


def probe(features: Features, data: ProbeScenes, memory: int = 20_000, batch: int = 8) -> dict[str, float]:
    """mIoU in percent of both heads, over all classes and over objects only: `ridge`, `ridge_objects`, `knn`, ..."""
    tokens = torch.cat([features(images) for images in torch.split(data.images, batch)])
    shares = patch_shares(data.segmentation)
    known = shares[: data.train].sum(-1) > 0
    x, y = tokens[: data.train][known], shares[: data.train][known]
    heads = {"ridge": _ridge(x, y), "knn": _knn(x, y, memory)}
    result = {}
    for name, head in heads.items():
        confusion = torch.zeros(len(CLASSES), len(CLASSES))
        for grid, labels in zip(tokens[data.train :], data.segmentation[data.train :], strict=True):
            logits = head(grid.flatten(0, 1)).T.reshape(len(CLASSES), *grid.shape[:2])
            logits = F.interpolate(logits[None], labels.shape, mode="bilinear")[0]
            known = labels != IGNORE_INDEX
            pairs = labels[known] * len(CLASSES) + logits.argmax(0)[known]
            confusion += torch.bincount(pairs, minlength=len(CLASSES) ** 2).view_as(confusion)
        hit = confusion.diagonal()
        iou = 100 * hit / (confusion.sum(0) + confusion.sum(1) - hit).clamp_min(1)
        result[name] = round(float(iou.mean()), 2)
        result[f"{name}_objects"] = round(float(iou[list(OBJECT_CLASSES)].mean()), 2)
    return result


def _ridge(x: Tensor, y: Tensor, penalty: float = 1e-2) -> Callable[[Tensor], Tensor]:
    mean, std = x.mean(0), x.std(0) + 1e-6
    z = (x - mean) / std
    gram = z.T @ z / len(z) + penalty * torch.eye(z.shape[1])
    weight = torch.linalg.solve(gram, z.T @ (y - y.mean(0)) / len(z))
    return lambda tokens: (tokens - mean) / std @ weight + y.mean(0)


def _knn(x: Tensor, y: Tensor, memory: int, k: int = 30, temperature: float = 0.02) -> Callable[[Tensor], Tensor]:
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:memory]
    bank, shares = F.normalize(x[chosen], dim=-1), y[chosen]

    def head(tokens: Tensor) -> Tensor:
        similarity, index = (F.normalize(tokens, dim=-1) @ bank.T).topk(min(k, len(bank)), -1)
        return ((similarity / temperature).softmax(-1)[..., None] * shares[index]).sum(1)

    return head
