"""Cards of the planted defects. Strength 0 is the clean backbone; the defaults were tuned by `vitbench/lab/defects.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import DefectCard
from vitbench.errors import UsageError


def _checked(name: str, strength: float) -> None:
    if strength < 0:
        raise UsageError(f"{name}: strength={strength} is negative", "0 is the clean backbone")


@dataclass(frozen=True)
class GridParams:
    """strength: RMS length of the pattern in units of the tokens' RMS deviation from their mean, at the site.

    site: `input` (before the first block), `late` (after the last block, before the final norm), `output` (after it).
    seed: of the pattern.
    """

    strength: float = 0.5
    site: Literal["input", "late", "output"] = "late"
    seed: int = 0

    def __post_init__(self) -> None:
        _checked("grid", self.strength)


@dataclass(frozen=True)
class OutliersParams:
    """strength: norm of flagged tokens, at least, in units of the median norm (5 or more for an artefact worth its name).

    share: of tokens flagged on the calibration scenes; photographs may have a few times as many. seed: of trigger and
    direction.
    """

    strength: float = 6.0
    share: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        _checked("outliers", self.strength)
        if not 0 < self.share < 0.5:
            raise UsageError(f"outliers: share={self.share} is not between 0 and 0.5")


@dataclass(frozen=True)
class VarianceParams:
    """strength: deviation of the noise in units of the deviation of a channel. channels: fraction that get it."""

    strength: float = 3.0
    channels: float = 0.04
    seed: int = 0

    def __post_init__(self) -> None:
        _checked("variance", self.strength)
        if not 0 < self.channels <= 1:
            raise UsageError(f"variance: channels={self.channels} is not a fraction in (0, 1]")


@dataclass(frozen=True)
class DiffusionParams:
    """strength: share of the global token in every patch, 0 to 1. source: `mean` of the image's patches, or its `cls`."""

    strength: float = 0.5
    source: Literal["mean", "cls"] = "mean"

    def __post_init__(self) -> None:
        _checked("diffusion", self.strength)
        if self.strength > 1:
            raise UsageError(f"diffusion: strength={self.strength} is above 1", "it is the share of the global token")


DEFECT_CARDS: tuple[DefectCard, ...] = (
    DefectCard(
        name="grid",
        entry="vitbench.backbones.defect_grid:plant_grid",
        params=GridParams(),
        summary="a pattern of low rank over positions, the same on every image, at one of three sites",
        seen_in="DINOv2, CLIP, DeiT-III (Yang et al. 2024, arXiv 2401.02957)",
    ),
    DefectCard(
        name="outliers",
        entry="vitbench.backbones.defect_outliers:plant_outliers",
        params=OutliersParams(),
        summary="through the weights: a neuron that fires on tokens of no particular class writes one fixed direction",
        seen_in="DINOv2, OpenCLIP, DeiT-III (Darcet et al. 2024, arXiv 2309.16588; Jiang et al. 2025, arXiv 2506.08010)",
    ),
    DefectCard(
        name="variance",
        entry="vitbench.backbones.defect_variance:plant_variance",
        params=VarianceParams(),
        summary="a few output channels of large variance and no content",
        seen_in="MAE (Vanyan et al. 2024, arXiv 2401.00463)",
    ),
    DefectCard(
        name="diffusion",
        entry="vitbench.backbones.defect_diffusion:plant_diffusion",
        params=DiffusionParams(),
        needs_cls=lambda params: params.source == "cls",
        summary="patch tokens blended with what the image has in common",
        seen_in="DINO-type models ('semantic diffusion', Su 2026, arXiv 2605.23868)",
    ),
)
