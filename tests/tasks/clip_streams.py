"""Made-up videos and pairs: squares that move, with tokens that know which square they show."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vitbench.catalogue.cards import TaskCard
from vitbench.tasks.base import Batch
from vitbench.tasks.memory import MemoryStream
from vitbench.tokens.types import Tokens

from .streams import batch, scenes_stream

SCENE_TARGETS = frozenset({"segmentation", "depth", "boxes", "label", "labels"})
SIDE, PATCH = 48, 4


def of_scenes(card: TaskCard) -> bool:
    """Whether a task is measured on single images that stand alone, so that made-up scenes do."""
    return frozenset(card.targets) <= SCENE_TARGETS


def stream_for(
    card: TaskCard, images: int, split: str, seed: int, noise: float = 0.3, batch_size: int = 8
) -> MemoryStream:
    """Made-up input of the kind that a task reads."""
    if of_scenes(card):
        return scenes_stream(images, split, seed, noise=noise, batch_size=batch_size)
    if "relevance" in card.targets:
        return landmarks_stream(images, split, seed, noise, batch_size)
    if "pose" in card.targets:
        return views_stream(max(images // 4, 2), 4, split, seed, noise, batch_size)
    return clips_stream(max(images // 4, 2), 5, split, seed, noise, batch_size)


def clips_stream(
    clips: int, frames: int, split: str, seed: int, noise: float = 0.3, batch_size: int = 8, channels: int = 24
) -> MemoryStream:
    """Two squares per clip on a plain ground; tokens tell the square and the place on it. All targets of videos and pairs."""
    samples = [_frame(split, seed, c, t, frames, noise, channels) for c in range(clips) for t in range(frames)]
    batches = []
    for start in range(0, len(samples), batch_size):
        part = samples[start : start + batch_size]
        fields = {name: torch.from_numpy(np.stack([f[name] for _, f, _ in part])) for name in part[0][1]}
        made = batch(fields, [target for _, _, target in part], PATCH)
        keys = tuple(key for key, _, _ in part)
        batches.append(Batch(Tokens(made.tokens.fields, made.tokens.geometry, keys), made.targets))
    return MemoryStream(batches, split)


def _boxes(seed: int, clip: int, t: int) -> list[tuple[int, int, int]]:
    """Corner x, y and side of the squares in frame t; both drift by a patch a frame at most."""
    rng = np.random.default_rng([seed, clip])
    corners, drift = rng.integers(4, 12, (2, 2)) + np.array([[0, 0], [16, 16]]), rng.integers(-2, 3, (2, 2))
    return [(int(x), int(y), 14) for x, y in np.clip(corners + t * drift, 0, SIDE - 14)]


def _frame(
    split: str, seed: int, clip: int, t: int, frames: int, noise: float, channels: int
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    labels, where = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE, 2), np.float32)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) + 0.5
    where[:] = np.stack([x, y], -1) / SIDE
    for number, (left, top, side) in enumerate(_boxes(seed, clip, t), start=1):
        inside = (slice(top, top + side), slice(left, left + side))
        labels[inside] = number
        where[inside] = np.stack([x[inside] - left, y[inside] - top], -1) / side
    projection = np.random.default_rng(7).normal(size=(8, channels)).astype(np.float32)
    rng = np.random.default_rng([seed, clip, t])
    known = np.concatenate(
        [np.eye(4)[labels + (clip % 2) * (labels > 0)] * 2, np.sin(3 * where), np.cos(3 * where)], -1
    )
    cells = known.reshape(SIDE // PATCH, PATCH, SIDE // PATCH, PATCH, 8).mean((1, 3)).astype(np.float32)
    tokens = cells @ projection + noise * rng.normal(size=(*cells.shape[:2], channels)).astype(np.float32)
    name = f"{split}-{clip}"
    target = {
        "image_hw": (SIDE, SIDE),
        "segmentation": labels,
        "frames": {"video": name, "index": t, "count": frames},
        "label": clip % 2,
        "boxes": np.array([[x0, y0, x0 + s, y0 + s] for x0, y0, s in _boxes(seed, clip, t)], np.float32),
        "boxes_track": np.array([1, 2]),
        "keypoints": [] if t else _pairs(name, seed, clip, frames),
    }
    fields = {"patch": tokens, "patch_raw": 2 * tokens, "cls": tokens.mean((0, 1))}
    return f"{name}/{t:02d}", fields, target


def views_stream(
    objects: int, views: int, split: str, seed: int, noise: float = 0.3, batch_size: int = 8
) -> MemoryStream:
    """A square plate of 60 cm seen by cameras turned about its upright; tokens know the point of the plate they show."""
    samples = [_plate(split, seed, o, v, noise) for o in range(objects) for v in range(views)]
    batches = []
    for start in range(0, len(samples), batch_size):
        part = samples[start : start + batch_size]
        fields = {"patch": torch.from_numpy(np.stack([x for _, x, _ in part]))}
        made = batch(fields, [t for _, _, t in part], PATCH)
        tokens = Tokens(made.tokens.fields, made.tokens.geometry, tuple(k for k, _, _ in part))
        batches.append(Batch(tokens, made.targets))
    return MemoryStream(batches, split)


def _plate(split: str, seed: int, thing: int, view: int, noise: float) -> tuple[str, Any, dict[str, Any]]:
    rng = np.random.default_rng([seed, thing, view])
    angle, away, focal = float(rng.uniform(-0.6, 0.6)), 1.0, 60.0
    normal = np.array([np.sin(angle), 0.0, np.cos(angle)])  # of the plate z = 0, in the camera's frame
    pixels = np.mgrid[0:SIDE, 0:SIDE].transpose(1, 2, 0)[..., ::-1] + 0.5
    rays = np.concatenate([(pixels - SIDE / 2) / focal, np.ones((SIDE, SIDE, 1))], -1)
    depth = normal[2] * away / (rays @ normal)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    points = (rays * depth[..., None] - [0, 0, away]) @ turn
    seen = np.abs(points[..., :2]).max(-1) < 0.3
    projection = np.random.default_rng([9, thing]).normal(size=(9, 24))
    waves = np.concatenate(
        [np.sin(k * points[..., :2]) for k in (3, 7)] + [np.cos(k * points[..., :2]) for k in (3, 7)], -1
    )
    known = np.concatenate([np.where(seen[..., None], waves, 0), ~seen[..., None]], -1)
    cells = known.reshape(SIDE // PATCH, PATCH, SIDE // PATCH, PATCH, 9).mean((1, 3)) @ projection
    tokens = cells + noise * rng.normal(size=cells.shape)
    target = {
        "image_hw": (SIDE, SIDE),
        "depth": np.where(seen, depth, 0).astype(np.float32),
        "pose": {
            "quaternion": [np.cos(angle / 2), 0, np.sin(angle / 2), 0],
            "translation_m": [0, 0, away],
            "focal_px": focal,
        },
        "pose_hw": [SIDE, SIDE],
    }
    return f"thing{thing}/{split}/{view:03d}", tokens.astype(np.float32), target


def landmarks_stream(images: int, split: str, seed: int, noise: float = 0.3, batch_size: int = 8) -> MemoryStream:
    """Images of four landmarks. Train is the collection `db-i` (landmark i % 4); queries name what is easy, hard and junk."""
    rng, places = np.random.default_rng([seed, len(split)]), 3 * np.eye(4, 12, dtype=np.float32)
    samples = []
    for i in range(images):
        same = [f"db-{j}" for j in range(64) if j % 4 == i % 4]
        relevance = {"easy": same[::3], "hard": same[1::3], "junk": same[2::3]}
        cls = places[i % 4] + noise * rng.normal(size=12).astype(np.float32)
        samples.append(
            (f"{'db' if split == 'train' else split}-{i}", cls, {"image_hw": (8, 8), "relevance": relevance})
        )
    batches = []
    for start in range(0, images, batch_size):
        part = samples[start : start + batch_size]
        made = batch({"cls": torch.from_numpy(np.stack([c for _, c, _ in part]))}, [t for _, _, t in part], PATCH)
        tokens = Tokens(made.tokens.fields, made.tokens.geometry, tuple(k for k, _, _ in part))
        batches.append(Batch(tokens, made.targets))
    return MemoryStream(batches, split)


def _pairs(name: str, seed: int, clip: int, frames: int) -> list[dict[str, Any]]:
    """Five points of each square in the first and in every later frame; boxes are wide, so that a cell is within 0.1 of one."""
    offsets = np.array([[3, 3], [11, 3], [7, 7], [3, 11], [11, 11]], np.float32)
    out = []
    for t in range(1, frames):
        for number, (before, after) in enumerate(zip(_boxes(seed, clip, 0), _boxes(seed, clip, t), strict=True)):
            boxes = [np.array([x, y, x + 3 * s, y + 3 * s], np.float32) for x, y, s in (before, after)]
            out.append(
                {
                    "pair": f"{name}-{number}-{t}", "target": f"{name}/{t:02d}", "numbers": list(range(5)),
                    "source_xy": offsets + boxes[0][:2], "target_xy": offsets + boxes[1][:2],
                    "source_box": boxes[0], "target_box": boxes[1],
                }
            )  # fmt: skip
    return out
