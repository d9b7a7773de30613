"""A token stream in memory, with made-up scenes whose tokens carry what the tasks ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitbench.catalogue.cards import DatasetCard, TaskCard
from vitbench.catalogue.resolve import TaskRef
from vitbench.catalogue.tasks.discovery import SweptSettings
from vitbench.tasks.base import Batch, TaskContext
from vitbench.tasks.memory import MemoryStream
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import Tokens

from .spoken import Spoken, projection

SWEPT = SweptSettings().fields()


# What makes a protocol cheap enough for made-up scenes; everything else is as frozen.
_STREAM: dict[str, Any] = {"iterations": 24, "batch": 4, "learning_rate": "0.05"}
_CROPS = {**_STREAM, "crop_px": 30, "stride_px": 20, "short_px": 32, "long_px": None}
_DEPTH_CROPS = {
    **_STREAM,
    "iterations": 60,
    "batch": 2,
    "learning_rate": "0.3",
    "crop_h": 26,
    "crop_w": 34,
    "border": "none",
    "crop": "none",
    "bins": 32,
    "mean_only": 5,
}
LIGHT: dict[str, dict[str, Any]] = {
    "token_classification@registers": {"c_low": -1, "c_high": 0, "c_steps": 2, "draws": 2},
    "linear_segmentation@leopart": {"epochs": 12, "drop_epoch": 10, "batch": 4, "learning_rate": 0.1},
    "cluster_segmentation@leopart_over": {"clusters": 40},
    **{f"linear_segmentation@{name}": _CROPS for name in ("dinov2", "dinov2_ms", "dinov3")},
    **{f"depth@{name}": _DEPTH_CROPS for name in ("dinov2", "dinov2_lin4", "dinov3", "dvt")},
    "linear_classification@dinov2": {"iterations": 40, "batch": 8, "image_px": 32, "learning_rate": "1/5"},
}


def light(card: TaskCard, protocol: str) -> TaskRef:
    """A protocol as the tests run it."""
    chosen = card.protocol(protocol)
    return TaskRef(card, chosen, replace(chosen.settings, **LIGHT.get(f"{card.name}@{protocol}", {})))


def whole(hw: tuple[int, int], patch_px: int) -> Placement:
    """The image as it is, padded to a multiple of the patch."""
    return Placement(hw, (-(-hw[0] // patch_px) * patch_px, -(-hw[1] // patch_px) * patch_px), hw)


def batch(fields: dict[str, Tensor], targets: list[dict[str, Any]], patch_px: int = 4, prefix: str = "im") -> Batch:
    """A batch of `whole` views; targets give `image_hw`."""
    placements = tuple(whole(t["image_hw"], patch_px) for t in targets)
    h, w = placements[0].view_hw
    keys = tuple(f"{prefix}{i}" for i in range(len(targets)))
    return Batch(Tokens(fields, Geometry(patch_px, (h // patch_px, w // patch_px), placements), keys), targets)


def context(classes: int = 0, objects: tuple[int, ...] = (), labels: int = 0, seed: int = 0) -> TaskContext:
    """A data set with that many classes (0: not declared)."""
    card = DatasetCard(
        "made_up", None, "", {}, (), tuple(map(str, range(classes))), objects, tuple(f"kind {i}" for i in range(labels))
    )
    return TaskContext(card, seed, Spoken())


def scene(rng: np.random.Generator, hw: tuple[int, int], n_classes: int) -> dict[str, Any]:
    """Two backgrounds split at a random column, a rectangle of an object class, void around it, and a depth ramp."""
    h, w = hw
    labels = np.zeros(hw, np.uint8)
    labels[:, int(rng.integers(w // 4, 3 * w // 4)) :] = 1
    y, x = int(rng.integers(0, h // 2)), int(rng.integers(0, w // 2))
    hh, ww = int(rng.integers(h // 4, h // 2)), int(rng.integers(w // 4, w // 2))
    kind = int(rng.integers(2, n_classes))
    labels[max(y - 1, 0) : y + hh + 1, max(x - 1, 0) : x + ww + 1] = 255
    labels[y : y + hh, x : x + ww] = kind
    depth = np.linspace(8, 2, h, dtype=np.float32)[:, None].repeat(w, 1)
    depth[labels == kind] = 1.0 + kind / 4
    depth[0] = 0
    return {
        "segmentation": labels,
        "depth": depth,
        "boxes": np.array([[x, y, x + ww, y + hh]], np.float32),
        "label": kind - 2,
        "labels": sorted({kind - 2, (kind - 1) % (n_classes - 2)}),
        "labels_unsure": [kind % (n_classes - 2)] if x % 4 == 0 else [],
        "image_hw": hw,
    }


def scenes_stream(
    images: int, split: str, seed: int, hw: tuple[int, int] = (32, 40), patch_px: int = 4, channels: int = 24,
    n_classes: int = 6, noise: float = 0.3, batch_size: int = 8,
) -> MemoryStream:  # fmt: skip
    """Tokens = random projection of what the cell shows (classes, depth, position, colour), plus noise; all fields."""
    known = projection(n_classes, channels)
    batches = []
    for start in range(0, images, batch_size):
        # A generator per image, so that the batch size does not change the scenes.
        rngs = [np.random.default_rng([seed, len(split), i]) for i in range(start, min(start + batch_size, images))]
        targets = [scene(rng, hw, n_classes) for rng in rngs]
        made = [_fields(t, r, known, patch_px, n_classes, noise) for t, r in zip(targets, rngs, strict=True)]
        fields = {name: torch.from_numpy(np.stack([m[name] for m in made])) for name in made[0]}
        part = batch(fields, targets, patch_px)
        keys = tuple(f"{split}-{start + i}" for i in range(len(targets)))
        batches.append(Batch(Tokens(part.tokens.fields, part.tokens.geometry, keys), targets))
    return MemoryStream(batches, split)


def _fields(
    target: dict[str, Any], rng: np.random.Generator, projection: Any, patch_px: int, n_classes: int, noise: float
) -> dict[str, Any]:
    labels = target["segmentation"]
    h, w = labels.shape[0] // patch_px, labels.shape[1] // patch_px
    cut = labels.reshape(h, patch_px, w, patch_px).transpose(0, 2, 1, 3).reshape(h, w, -1)
    shown = [(cut == c).mean(-1) for c in range(n_classes)]
    depth = target["depth"].reshape(h, patch_px, w, patch_px).mean((1, 3)) / 8
    grid = np.mgrid[0:h, 0:w] / max(h, w)
    pixels = rng.integers(0, 256, (h, w, 3 * patch_px**2)).astype(np.uint8)
    known = np.stack([*shown, depth, *grid, pixels.mean(-1) / 255], axis=-1).astype(np.float32)
    tokens = known @ projection + noise * rng.normal(size=(h, w, projection.shape[1])).astype(np.float32)
    norms = np.stack([np.linalg.norm(tokens, axis=-1) * (1 + block) for block in range(3)])
    norms[-1, 0, 0] *= 20
    flags = np.zeros((h, w), bool)
    flags[0, 0] = True
    foreground = (cut == target["label"] + 2).mean(-1) > 0.5
    keys = np.where(foreground[..., None], 1.0, -0.3) * np.ones(projection.shape[1])
    # A stream of its own for later fields, so that the earlier ones stay what they were.
    late = np.random.default_rng([int(labels.sum()), 1])
    return {
        **_diagnostic_fields(cut, foreground, tokens),
        **{name: (keys + 0.4 * late.normal(size=keys.shape)).astype(np.float32) for name in SWEPT if name != "key"},
        "patch": tokens.astype(np.float32),
        "key": (keys + 0.2 * rng.normal(size=keys.shape)).astype(np.float32),
        "cls": (projection[target["label"]] + noise * 2 * rng.normal(size=projection.shape[1])).astype(np.float32),
        "norms": norms.astype(np.float32),
        "pixels": pixels,
        "flags": flags,
    }


def _diagnostic_fields(cut: Any, foreground: Any, tokens: Any) -> dict[str, Any]:
    """Fields that only diagnostics read, from a stream of random numbers of their own."""
    rng = np.random.default_rng([int(cut.sum()), 2])
    h, w, channels = tokens.shape
    attention = foreground + 0.5 * rng.random((3, h, w))
    attention /= 1.2 * attention.sum((1, 2), keepdims=True)
    embedded = cut.mean(-1, keepdims=True) / 255 + rng.normal(size=(h, w, channels))
    registers = rng.normal(size=(2, channels)) + tokens.mean((0, 1))
    cosines = np.tanh(rng.normal(size=(2, 3, h, w)))
    cosines[1, :, 0, 0] = 0.99
    spread = rng.random((5, h, w)) * np.array([3, 4, 20, 30, 1])[:, None, None]
    made = {
        "patch_embed": embedded, "registers": registers, "cls_similarity": cosines[0], "singular_cosine": np.abs(cosines[1]),
        "attention_spread": spread, "cls_attention": attention, "register_attention": attention[:2],
    }  # fmt: skip
    return {name: value.astype(np.float32) for name, value in made.items()}
