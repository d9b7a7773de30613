"""Cards of the artefact probes and diagnostics (Darcet et al. 2023, arXiv 2309.16588)."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import Protocol, Source, TaskCard
from vitbench.catalogue.tasks.classification import LogregSettings
from vitbench.catalogue.tasks.settings import OutlierSettings, RidgeSettings, setting

_REGISTERS = Source("Darcet et al.", 2023, "2309.16588")
_OUTLIERS = (
    "Outliers have a norm above median + k_mad x MAD of all train tokens: the paper's cut-off is set by hand per model."
)


@dataclass(frozen=True)
class PositionSettings(OutlierSettings):
    """Settings of `position_probe@registers`."""

    shrinkage: float = setting(0.01, "share of the channel variances added to the within-position covariance")


@dataclass(frozen=True)
class PixelSettings(RidgeSettings, OutlierSettings):
    """Settings of `pixel_probe@registers`."""


@dataclass(frozen=True)
class TokenKindSettings(LogregSettings, OutlierSettings):
    """Settings of `token_classification@registers`."""

    field: str = "patch"
    c_low: int = setting(-4, "log10 of the smallest C")
    c_high: int = setting(3, "log10 of the largest C")
    c_steps: int = setting(8, "values on the logarithmic C grid; ties go to the smallest C")
    draws: int = setting(3, "tokens drawn of each kind per image, each with a head of its own")


@dataclass(frozen=True)
class NormSettings(OutlierSettings):
    """Settings of `token_norms@registers`."""

    field: str = "norms"
    image_px: int = 448
    cutoff: float | None = setting(
        None, "fixed norm above which a token is an outlier (150 for DINOv2-g); none: not reported"
    )


POSITION_PROBE = TaskCard(
    name="position_probe",
    entry="vitbench.tasks.position_probe:PositionProbe",
    title="Position probe",
    family="probe",
    metric="position",
    headline="top1",
    aux=lambda _: ("norms",),
    summary="Where in the grid a token comes from, by one linear layer.",
    protocols=(
        Protocol(
            name="registers",
            version=1,
            settings=PositionSettings(),
            summary="A linear classifier C -> N over grid positions, fitted on all train tokens; top-1 and the mean distance "
            "in patches, for all, normal and outlier tokens.",
            source=_REGISTERS,
            differs="The paper's optimiser, epochs and data are not published. The classifier is the linear discriminant "
            "(position means, shared covariance): the same softmax-linear form in closed form, without seed, step size or "
            "epochs, and more accurate on held-out images than AdamW run to convergence when images are few. "
            + _OUTLIERS,
        ),
    ),
)

PIXEL_PROBE = TaskCard(
    name="pixel_probe",
    entry="vitbench.tasks.pixel_probe:PixelProbe",
    title="Pixel probe",
    family="probe",
    metric="pixels",
    headline="l2",
    aux=lambda _: ("pixels", "norms"),
    summary="How well a token remembers the pixels of its patch, by one linear layer.",
    protocols=(
        Protocol(
            name="registers",
            version=1,
            settings=PixelSettings(),
            summary="Ridge regression C -> 3 p^2 to the patch's pixels in 0..1; mean L2 norm of the error vector per patch, "
            "for all, normal and outlier tokens. The scale grows with the patch: compare within one patch size.",
            source=_REGISTERS,
            selection="heldout",
            differs="The paper's optimiser, data and pixel scale are not published; here closed form and 0..1. "
            + _OUTLIERS,
        ),
    ),
)

TOKEN_NORMS = TaskCard(
    name="token_norms",
    entry="vitbench.tasks.token_norms:TokenNorms",
    title="Token norms",
    family="diagnostic",
    metric="norms",
    headline="outliers_mad",
    splits=("val",),
    summary="How many patch tokens have an outlying norm, after each block.",
    protocols=(
        Protocol(
            name="registers",
            version=1,
            settings=NormSettings(),
            summary="Shares of tokens above a fixed cut-off, above median + k_mad x MAD, above mean + 3 std, and the largest norm "
            "of an image over its median; after `block` and after the worst block.",
            source=_REGISTERS,
            differs="Medians, MAD, mean and std are those of all tokens of the measured split after the same block (of the first "
            "1,000 images where there are more). Norms are taken before the final norm. A share above a percentile is not "
            "reported: it is the same for every model. Neither are kurtosis and the places of outliers.",
        ),
    ),
)

TOKEN_CLASSIFICATION = TaskCard(
    name="token_classification",
    entry="vitbench.tasks.token_classification:TokenClassification",
    title="Token classification",
    family="probe",
    metric="token_kinds",
    headline="top1_outlier",
    targets=("label",),
    aux=lambda _: ("norms", "cls", "registers"),
    stochastic=True,
    summary="What one token knows of the whole image, by kind of token.",
    protocols=(
        Protocol(
            name="registers",
            version=1,
            settings=TokenKindSettings(),
            summary="One random token per image, an outlier, a normal one or a register, or CLS; logistic regression "
            "fitted and tested on tokens of that kind. Mean over draws, and their standard deviation. Coverage is "
            "the share of test images with an outlier; in the others the token with the largest norm stands for one.",
            source=_REGISTERS,
            selection="heldout",
            differs="The paper's regression, data sets apart, and number of draws are not published. C is chosen for "
            "every head on a slice of train. Where nothing covers, top1_outlier is that of the largest norm: read it "
            "with coverage. " + _OUTLIERS,
        ),
    ),
)
