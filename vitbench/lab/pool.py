"""What the lab's training sees: crops of a pool of pre-rendered scenes, one scene in two styles.

Scenes come from the seed of the train split only, at several resolutions, so that objects have several sizes in
patches. Both views of a crop show the same geometry at the same place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.backbones.lab import MEAN, STD
from vitbench.data.scenes import SPLITS, render

TRAIN_SEED = SPLITS["train"][0]
SIZES = (128, 152, 176, 200)  # px of the pool's scenes: objects of 6 to 10 patches
PROBE_START = 1_000_000  # first scene of the probes that are logged: neither in the pool nor in any split

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PoolScene:
    """One scene of the pool."""

    images: Bytes  # styles h w 3
    segmentation: Bytes  # h w


@dataclass(frozen=True)
class Crops:
    """A batch of aligned views."""

    first: Tensor  # b 3 s s, normalised
    second: Tensor  # b 3 s s, the same geometry in another style
    segmentation: Tensor  # b s s, int64, 255 ignored (for `lab_sup` only)


def render_pool(scenes: int, styles: int = 2) -> list[PoolScene]:
    """Render the first scenes of the train seed; their sizes go round SIZES."""
    pool = []
    for index in range(scenes):
        size = SIZES[index % len(SIZES)]
        shots = [render(TRAIN_SEED, index, size, style) for style in range(styles)]
        pool.append(PoolScene(np.stack([shot.image for shot in shots]), shots[0].segmentation))
    return pool


def sample_crops(pool: list[PoolScene], rng: np.random.Generator, batch: int, side: int) -> Crops:
    """Random crops of `side` px with a random flip; each view gets colours of its own."""
    views = np.empty((2, batch, side, side, 3), np.uint8)
    labels = np.empty((batch, side, side), np.uint8)
    for row in range(batch):
        scene = _pick(pool, rng, side)
        height = scene.segmentation.shape[0]
        top, left = (int(x) for x in rng.integers(0, height - side + 1, 2))
        window = (slice(top, top + side), slice(left, left + side))
        flip = (slice(None), slice(None, None, -1 if rng.random() < 0.5 else 1))
        styles = rng.permutation(len(scene.images))
        for view in range(2):
            views[view, row] = scene.images[styles[view % len(styles)]][window][flip]
        labels[row] = scene.segmentation[window][flip]
    first, second = (_recolour(torch.from_numpy(view), rng) for view in views)
    return Crops(first, second, torch.from_numpy(labels).long())


def _pick(pool: list[PoolScene], rng: np.random.Generator, side: int) -> PoolScene:
    while True:
        scene = pool[int(rng.integers(len(pool)))]
        if scene.segmentation.shape[0] >= side:
            return scene


def _recolour(images: Tensor, rng: np.random.Generator) -> Tensor:
    """b h w 3 bytes -> b 3 h w normalised, with channels permuted and a gain and gamma per channel."""
    batch = len(images)
    order = torch.from_numpy(rng.permuted(np.tile(np.arange(3), (batch, 1)), axis=1))
    gain = torch.from_numpy(rng.uniform(0.7, 1.3, (batch, 3, 1, 1)).astype(np.float32))
    gamma = torch.from_numpy(rng.uniform(0.75, 1.3, (batch, 1, 1, 1)).astype(np.float32))
    values = images.permute(0, 3, 1, 2)[torch.arange(batch)[:, None], order].float().div_(255.0)
    return normalise((values**gamma * gain).clamp_(0.0, 1.0))


def normalise(images: Tensor) -> Tensor:
    """b 3 h w in 0 to 1 -> as the lab's ViTs want them."""
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
