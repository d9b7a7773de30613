"""Pixel probe: does a token still know the pixels of its patch? (Darcet et al. 2023, arXiv 2309.16588, Fig. 5b)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.probes import PIXEL_PROBE, PixelSettings
from vitbench.errors import TokensError
from vitbench.heads.ridge import RidgeFit
from vitbench.metrics.pixels import pixel_errors
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.outliers import NormReference, block_norms
from vitbench.tasks.ridge_fit import fit_ridge_on
from vitbench.tasks.units import UnitRows
from vitbench.tokens.types import Tokens


@dataclass(frozen=True)
class PixelHead:
    """The ridge head and the norm above which a token is an outlier."""

    fit: RidgeFit
    threshold: float


def unit_pixels(tokens: Tokens) -> Tensor:
    """The patch's pixels in 0..1: b h w 3pp float32 from uint8."""
    pixels = tokens["pixels"]
    if pixels.dtype != torch.uint8:
        raise TokensError(f"field 'pixels' is {pixels.dtype}", "it is stored as uint8")
    return pixels.float().div_(255)


class PixelProbe(Task[PixelSettings]):
    """Fitted on all train tokens; scored on all, normal and outlier tokens."""

    card: ClassVar[TaskCard] = PIXEL_PROBE

    def fit(self, train: TokenStream, context: TaskContext) -> PixelHead:
        reference = NormReference(self.settings.k_mad, self.settings.block)

        def targets(batch: Batch) -> tuple[Tensor, None]:
            return unit_pixels(batch.tokens), None

        outputs = next((batch.tokens["pixels"].shape[-1] for batch in train), 0)
        fit = fit_ridge_on(train, self.settings, outputs, targets, also=reference.add)
        return PixelHead(fit, reference.threshold())

    def measure(self, head: PixelHead, test: TokenStream, context: TaskContext) -> Rows:
        units = UnitRows()
        for batch in test:
            error = head.fit.head(batch.tokens[self.settings.field]) - unit_pixels(batch.tokens)
            norms = torch.linalg.vector_norm(error, dim=-1).flatten(1).cpu().numpy()
            outlier = (block_norms(batch, self.settings.block) > head.threshold).flatten(1).cpu().numpy()
            for i, key in enumerate(batch.tokens.keys):
                units.add(key, pixel_errors(norms[i], outlier[i]))
        return units.rows()

    def flags(self, head: PixelHead, rows: Rows) -> Mapping[str, Any]:
        return {"lambda": head.fit.lam, "outlier_threshold": head.threshold}
