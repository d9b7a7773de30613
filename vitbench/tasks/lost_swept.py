"""LOST with its feature, block, transform and Gram bias chosen on other images (Darcet et al. 2023, arXiv 2309.16588).

The registers paper adds a bias to the Gram matrix and reads keys or values, neither with its size nor its choice told; with
everything swept and the best reported, its numbers are reached. Here no image is measured with what was chosen on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitbench.catalogue.tasks.discovery import SweptSettings
from vitbench.metrics.boxes import localisation
from vitbench.tasks.base import Batch, TokenStream
from vitbench.tasks.lost import LostBoxes, by_degree, grow
from vitbench.tasks.true_boxes import true_boxes
from vitbench.tokens.checks import checked

TRANSFORMS = ("raw", "centred", "unit")
_QUANTILE_ROWS = 64  # rows of the Gram matrix from which its quantiles are read


@dataclass(frozen=True)
class Variant:
    """One way to run LOST. quantile: the bias is minus that quantile of the Gram matrix; 0: no bias."""

    field: str
    transform: str
    quantile: float

    def __str__(self) -> str:
        return f"{self.field} {self.transform} " + (f"bias=-q{self.quantile:g}" if self.quantile else "no bias")


def variants(settings: SweptSettings) -> list[Variant]:
    """All of them, the plainest first, so that it wins ties."""
    steps = settings.bias_steps
    quantiles = [i / (steps + 1) for i in range(steps + 1)]
    return [Variant(f, t, round(q, 6)) for f in settings.fields() for t in TRANSFORMS for q in quantiles]


def transformed(tokens: Tensor, transform: str) -> Tensor:
    """b n c as it is, less the image's mean token, or that at unit length."""
    if transform == "raw":
        return tokens
    centred = tokens - tokens.mean(1, keepdim=True)
    return centred if transform == "centred" else torch.nn.functional.normalize(centred, dim=-1)


def variant_boxes(batch: Batch, todo: list[Variant], k: int) -> Iterator[tuple[Variant, LostBoxes]]:
    """The boxes of a batch under each variant; the Gram matrix is made once for all biases of a field and transform."""
    grid_hw = batch.tokens.geometry.grid_hw
    for field, transform in dict.fromkeys((v.field, v.transform) for v in todo):
        keys = checked(batch.tokens[field], "b h w c", f"{field} tokens for LOST")
        tokens = transformed(keys.flatten(1, 2), transform)
        gram = tokens @ tokens.mT
        for v in (v for v in todo if (v.field, v.transform) == (field, transform)):
            biased = gram - _quantile(gram, v.quantile) if v.quantile else gram
            yield v, LostBoxes.of(*grow(biased, by_degree(biased), k), grid_hw)


def _quantile(gram: Tensor, q: float) -> Tensor:
    """b 1 1: the q-quantile of evenly spaced rows, the lower of the two values around it."""
    step = max(gram.shape[1] // _QUANTILE_ROWS, 1)
    rows = gram[:, ::step].flatten(1)
    return rows.kthvalue(max(round(q * rows.shape[1]), 1), dim=1).values[:, None, None]


def fold_of(key: str) -> int:
    """0 or 1, by the key alone."""
    return hashlib.sha256(key.encode()).digest()[0] & 1


def choose(stream: TokenStream, settings: SweptSettings) -> tuple[Variant, Variant]:
    """For the images of fold 0 and of fold 1: the variant that finds most objects among `select_images` of the other."""
    todo = variants(settings)
    wanted = _selection(stream.keys, settings.select_images)
    hits = {fold: np.zeros(len(todo)) for fold in (0, 1)}
    for batch in stream:
        chosen = [i for i, key in enumerate(batch.tokens.keys) if key in wanted]
        if not chosen:
            continue
        part = Batch(batch.tokens.select(chosen), [batch.targets[i] for i in chosen])
        for number, (_, found) in enumerate(variant_boxes(part, todo, settings.k)):
            for fold, hit in _hits(part, found, settings.no_hard):
                hits[fold][number] += hit
    return todo[int(hits[1].argmax())], todo[int(hits[0].argmax())]


def _selection(keys: tuple[str, ...], count: int) -> Mapping[str, int]:
    ranked = sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest()[1:])
    folds = {fold: [key for key in ranked if fold_of(key) == fold][:count] for fold in (0, 1)}
    return {key: fold for fold, chosen in folds.items() for key in chosen}


def _hits(batch: Batch, found: LostBoxes, no_hard: bool) -> Iterator[tuple[int, float]]:
    geometry = batch.tokens.geometry
    for i, key in enumerate(batch.tokens.keys):
        truth = true_boxes(batch.targets[i], no_hard)
        box = geometry.to_pixels(i, found.boxes[i])[0]
        yield fold_of(key), localisation(box, truth, geometry.placements[i].source_hw)["hit"]
