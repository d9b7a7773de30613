"""Collecting rows: one unit after another, each a few named statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.errors import DataError
from vitbench.records.rows import Rows


def group_of(key: str) -> str:
    """What the bootstrap resamples: the image that a sample is of (windows are `image#0`, `image#1`)."""
    return key.partition("#")[0]


def by_video(rows: Rows) -> Rows:
    """Frames (`video/frame`) of tasks on single images in one group per video: they are no images independent of each other."""
    if rows.unit_id != rows.group_id:  # the task has groups of its own
        return rows
    return replace(rows, group_id=tuple(key.rpartition("/")[0] or key for key in rows.unit_id))


def image_rng(seed: int, key: str) -> np.random.Generator:
    """Random numbers that depend on the seed and the sample's id, never on order or batches."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")])


class UnitRows:
    """Statistics per sample. Arrays that grow (a class first seen late) are widened with zeros."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._stats: dict[str, list[npt.NDArray[np.float64]]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str, stats: Mapping[str, npt.ArrayLike]) -> None:
        """One unit; every unit has the same names."""
        self._keys.append(key)
        for name, value in stats.items():
            self._stats.setdefault(name, []).append(np.asarray(value, np.float64))

    def rows(self, info: Mapping[str, Any] | None = None) -> Rows:
        """All units. Raises DataError where there is none."""
        if not self._keys:
            raise DataError("the split to measure on is empty", "check the data set and --limit")
        stats = {name: _stacked(values) for name, values in self._stats.items()}
        return Rows(tuple(self._keys), tuple(group_of(k) for k in self._keys), stats, dict(info or {}))


def _stacked(values: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    if values[0].ndim == 0:
        return np.array([float(v) for v in values])
    width = max(len(v) for v in values)
    return np.stack([np.pad(v, (0, width - len(v))) for v in values])
