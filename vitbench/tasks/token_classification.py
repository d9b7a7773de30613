"""Token classification: what one token knows of the whole image (Darcet et al. 2023, arXiv 2309.16588, Table 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.probes import TOKEN_CLASSIFICATION, TokenKindSettings
from vitbench.errors import DataError
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.logistic import LogisticHead, fit_logistic
from vitbench.heads.ridge import log_grid
from vitbench.metrics.classification import ranked
from vitbench.metrics.token_kinds import KINDS
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.image_features import ImageFeatures, label_count
from vitbench.tasks.outliers import NormReference, block_norms
from vitbench.tasks.units import UnitRows, image_rng

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """One token per image, kind and draw: kind -> draws n c (of CLS one draw; no register without registers).

    labels (n,); covered (n,): images with an outlier.
    """

    x: Mapping[str, Floats]
    labels: npt.NDArray[np.int64]
    keys: tuple[str, ...]
    covered: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TokenHeads:
    """A head per kind and draw, and the norm above which a token is an outlier."""

    heads: Mapping[str, list[LogisticHead]]
    threshold: float


class TokenClassification(Task[TokenKindSettings]):
    """Heads of one kind are fitted and tested on tokens of that kind; every draw has a head of its own."""

    card: ClassVar[TaskCard] = TOKEN_CLASSIFICATION

    def fit(self, train: TokenStream, context: TaskContext) -> TokenHeads:
        s, reference = self.settings, NormReference(self.settings.k_mad, self.settings.block)
        for batch in train:
            reference.add(batch)
        if not len(train):
            raise DataError("the train split is empty", "check the data set and --limit")
        drawn = self._draw(train, reference.threshold(), context.seed)
        chosen = holdout_keys(drawn.keys, s.holdout)
        held_out = np.array([key in chosen for key in drawn.keys])
        grid = log_grid(s.c_low, s.c_high, s.c_steps)
        seen = ImageFeatures(torch.empty(0), torch.from_numpy(drawn.labels), drawn.keys)
        n_classes = label_count(seen, context)
        heads = {
            kind: [fit_logistic(x, drawn.labels, held_out, grid, n_classes, s.max_iter, s.tolerance) for x in draws]
            for kind, draws in drawn.x.items()
        }
        return TokenHeads(heads, reference.threshold())

    def measure(self, head: TokenHeads, test: TokenStream, context: TaskContext) -> Rows:
        units, drawn = UnitRows(), self._draw(test, head.threshold, context.seed)
        right = {
            kind: np.stack(
                [ranked(h(x))[:, 0] == drawn.labels for h, x in zip(head.heads[kind], draws, strict=True)], 1
            )
            for kind, draws in drawn.x.items()
        }
        none = np.zeros((len(drawn.keys), 1))
        for i, key in enumerate(drawn.keys):
            stats: dict[str, Any] = {"covered": float(drawn.covered[i])}
            for kind in KINDS:
                stats[f"n_{kind}"] = float(kind in right)
                stats[f"correct_{kind}"] = right.get(kind, none)[i]
            units.add(key, stats)
        return units.rows()

    def flags(self, head: TokenHeads, rows: Rows) -> Mapping[str, Any]:
        fits = [h for heads in head.heads.values() for h in heads]
        stopped = sum(h.unconverged for h in fits)
        return {
            "outlier_threshold": head.threshold,
            "C": {kind: [h.chosen_c for h in heads] for kind, heads in head.heads.items()},
            **({"unconverged_fits": stopped} if stopped else {}),
        }

    def _draw(self, stream: TokenStream, threshold: float, seed: int) -> Drawn:
        tokens: dict[str, list[Floats]] = {kind: [] for kind in KINDS}
        labels: list[int] = []
        keys: list[str] = []
        covered: list[bool] = []
        for batch in stream:
            for i, key in enumerate(batch.tokens.keys):
                found, outliers = self._image(batch, i, threshold, image_rng(seed, key))
                for kind, x in found.items():
                    tokens[kind].append(x)
                covered.append(outliers)
                labels.append(int(batch.targets[i]["label"]))
                keys.append(key)
        if not keys:
            raise DataError(f"the {stream.split} split is empty", "check the data set and --limit")
        stacked = {kind: np.stack(x, axis=1) for kind, x in tokens.items() if x}
        return Drawn(stacked, np.array(labels, np.int64), tuple(keys), np.array(covered))

    def _image(
        self, batch: Batch, i: int, threshold: float, rng: np.random.Generator
    ) -> tuple[dict[str, Floats], bool]:
        """Tokens of image i by kind (draws c), and whether it has an outlier; where none, its largest norm stands for one."""
        tokens, draws = batch.tokens, self.settings.draws
        valid = tokens.geometry.valid()[i].ravel()
        norms = block_norms(batch, self.settings.block)[i].flatten().cpu().numpy()
        norms = np.where(valid, norms, -np.inf)
        outliers = np.flatnonzero(norms > threshold)
        covered = bool(len(outliers))
        outliers = outliers if covered else np.array([norms.argmax()])
        normal = np.flatnonzero(valid & (norms <= threshold))
        if not len(normal):  # every token is an outlier: the one closest to normal
            normal = np.array([np.where(valid, norms, np.inf).argmin()])
        patches = tokens[self.settings.field][i].flatten(0, 1)
        found = {
            "outlier": patches[rng.choice(outliers, draws)],
            "normal": patches[rng.choice(normal, draws)],
            "cls": tokens["cls"][i][None],
        }
        registers = tokens["registers"][i]
        if len(registers):
            found["register"] = registers[rng.integers(0, len(registers), draws)]
        return {kind: np.asarray(x.double().cpu().numpy(), np.float64) for kind, x in found.items()}, covered
