"""Cards of the repairs, each with its parameters. Formulas are in the repair's own file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vitbench.catalogue.cards import RepairCard, Source
from vitbench.catalogue.fields import parse_field
from vitbench.errors import UsageError

GRID_KINDS = ("patch", "patch_raw", "block", "query", "key", "value")
CHANNEL_KINDS = (*GRID_KINDS, "cls")
ANY_FIELD = "any"
OWN_BASELINE = "a baseline of this suite: no published definition to differ from"
ONE_PASS = "fit: one pass over the train tokens; no forward at test time"
Detector = Literal["norm", "robust", "lof", "singular"]
NO_FIT = "no fit, no forward at test time"


@dataclass(frozen=True)
class NoParams:
    """A repair without parameters."""


def _checked_m(m: int | float) -> None:
    if m < 0 or (isinstance(m, float) and m > 1):
        raise UsageError(f"m={m} is neither a number of channels nor a fraction of them", "use m=50 or m=0.26")


def _checked_field(name: str) -> None:
    if name != ANY_FIELD and name not in CHANNEL_KINDS:
        raise UsageError(
            f"field={name} is not a kind of field with channels", f"{ANY_FIELD}, {', '.join(CHANNEL_KINDS)}"
        )


@dataclass(frozen=True)
class RemoveHighVarianceParams:
    """m: channels to drop, as a number (int) or a fraction (float). 0.26 is the 200 of 768 that is quoted for ViT-B.

    field: the one kind of field to act on; `any`: all that the card names.
    """

    m: int | float = 0.26
    field: str = ANY_FIELD

    def __post_init__(self) -> None:
        _checked_m(self.m)
        _checked_field(self.field)


@dataclass(frozen=True)
class RandomDimsParams:
    """m and field as in `remove_high_variance`; seed: which channels fall."""

    m: int | float = 0.26
    seed: int = 0
    field: str = ANY_FIELD

    def __post_init__(self) -> None:
        _checked_m(self.m)
        _checked_field(self.field)


@dataclass(frozen=True)
class RemoveTopComponentsParams:
    """k: principal directions to project out; 0 leaves tokens as they are (the mean too)."""

    k: int = 1

    def __post_init__(self) -> None:
        if self.k < 0:
            raise UsageError(f"remove_top_components: k={self.k} is negative", "k counts directions: 1, 2, 3, 5, 10")


@dataclass(frozen=True)
class NormClipParams:
    """rule: `quantile` (the q-quantile of train norms) or `mad` (median + width x 1.4826 x MAD)."""

    rule: Literal["quantile", "mad"] = "quantile"
    q: float = 0.98
    width: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.q <= 1:
            raise UsageError(f"norm_clip: q={self.q} is not a quantile", "use a number in (0, 1]")
        if self.width < 0:
            raise UsageError(f"norm_clip: width={self.width} is negative")


@dataclass(frozen=True)
class OutlierParams:
    """det: `robust` (norm > median + 5 x 1.4826 x MAD of train norms), `norm` (norm > mean + 3 sd), `lof` or `singular`.

    Outliers of unequal length swell the deviation until `norm` misses most of them, so `robust` is the default. `lof`:
    the 5 % of tokens with the largest local outlier factor (20 neighbours) within their image; it reads no norm.
    `singular`: |cos| with a block's singular defect direction (SINDER) above the robust rule's threshold.

    block: whose residual norms are read (-1: the last; -2 where the last block lowers them, as in DINOv2-L).
    """

    det: Detector = "robust"
    block: int = -1

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields that the detector reads beside the repaired one."""
        return {"lof": (), "singular": ("patch_raw",)}.get(self.det, ("norms",))


@dataclass(frozen=True)
class Smooth3Params:
    """strength: 0 leaves tokens as they are, 1 is the full 3x3 Gaussian."""

    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UsageError(f"smooth3: strength={self.strength} is outside 0 to 1")


def kinds(card: RepairCard, params: Any) -> tuple[str, ...]:
    """Kinds of fields a repair acts on with these parameters: the card's, narrowed by a parameter `field`."""
    chosen = getattr(params, "field", ANY_FIELD)
    return card.acts_on if chosen == ANY_FIELD else (parse_field(chosen).kind,)


def needs(card: RepairCard, params: Any) -> tuple[str, ...]:
    """Further fields that a repair reads with these parameters: the card's, or what the parameters themselves say."""
    chosen: tuple[str, ...] = getattr(params, "needs", card.needs)
    return chosen


_VANYAN = Source("Vanyan et al.", 2024, "2401.00463")
_MU = Source("Mu and Viswanath", 2018, "1702.01417")
_DARCET = Source("Darcet et al.", 2024, "2309.16588")


NONE = RepairCard(
    name="none",
    entry="vitbench.repairs.none:NoRepair",
    params=NoParams(),
    family="none",
    acts_on=("*",),
    summary="tokens as the backbone gives them: what every repair is compared with",
    cost="nothing",
)
REGISTERS = RepairCard(
    name="registers",
    entry="vitbench.repairs.registers:Registers",
    params=NoParams(),
    family="twin",
    acts_on=("*",),
    swaps="register_twin",
    summary="runs the twin that was trained with register tokens",
    source=_DARCET,
    upstream_licence="Apache-2.0 (DINOv2)",
    published_for="DINOv2, OpenCLIP and DeiT-III, pretrained anew with register tokens",
    differs="released twins are independent training runs, so the difference is not of registers alone",
    cost="a pass of the twin",
)
REMOVE_HIGH_VARIANCE = RepairCard(
    name="remove_high_variance",
    entry="vitbench.repairs.remove_high_variance:RemoveHighVariance",
    params=RemoveHighVarianceParams(),
    family="map",
    acts_on=CHANNEL_KINDS,
    needs_fit=True,
    least_images=2,
    applied_only=("m",),
    summary="drops the channels with the largest variance over train tokens",
    source=_VANYAN,
    upstream_licence="no public code",
    published_for="masked-image models (MAE, Scale-MAE), for k-NN on their tokens",
    differs="fit set, order of removal and normalisation are ours (unpublished); m is a fraction, to fit any width",
    cost=ONE_PASS,
)
CENTER = RepairCard(
    name="center",
    entry="vitbench.repairs.center:Center",
    params=NoParams(),
    family="map",
    acts_on=CHANNEL_KINDS,
    needs_fit=True,
    least_images=2,
    summary="subtracts the mean train token",
    differs=OWN_BASELINE,
    cost=ONE_PASS,
)
ZSCORE = RepairCard(
    name="zscore",
    entry="vitbench.repairs.zscore:ZScore",
    params=NoParams(),
    family="map",
    acts_on=CHANNEL_KINDS,
    needs_fit=True,
    least_images=2,
    summary="standardises each channel with its mean and deviation over train tokens",
    differs=OWN_BASELINE
    + "; recovers 84 % of the lab's planted variance in k-NN mIoU, since it costs the clean backbone 1.2 points "
    "too: the gap between them closes by 96 %",
    cost=ONE_PASS,
)
POSITION_MEAN = RepairCard(
    name="position_mean",
    entry="vitbench.repairs.position_mean:PositionMean",
    params=NoParams(),
    family="map",
    acts_on=GRID_KINDS,
    needs_fit=True,
    least_images=20,
    summary="subtracts the mean train token of each grid position and adds back the overall mean",
    source=Source("Yang et al.", 2024, "2401.02957"),
    upstream_licence="MIT",
    published_for="the artefact field behind it: ViT-B of DINO, DINOv2, DeiT-III, CLIP and EVA-02",
    differs="a baseline: the artefact of DVT is fitted by gradient descent, here it is the mean over images: of 1,000 or "
    "more, though 20 are taken (a mean of n images holds 1/n of a token's own variance)",
    cost=ONE_PASS,
)
REMOVE_TOP_COMPONENTS = RepairCard(
    name="remove_top_components",
    entry="vitbench.repairs.remove_top_components:RemoveTopComponents",
    params=RemoveTopComponentsParams(),
    family="map",
    acts_on=CHANNEL_KINDS,
    needs_fit=True,
    least_images=2,
    summary="subtracts the mean and projects out the first k principal directions (all-but-the-top)",
    source=_MU,
    upstream_licence="none (re-implemented)",
    published_for="word vectors",
    differs="made for word vectors; directions come from train tokens; costs the clean lab_ssl 2.1 points of k-NN mIoU",
    cost="fit: one pass over the train tokens and an eigendecomposition; no forward at test time",
)
NORM_CLIP = RepairCard(
    name="norm_clip",
    entry="vitbench.repairs.norm_clip:NormClip",
    params=NormClipParams(),
    family="map",
    acts_on=GRID_KINDS,
    needs_fit=True,
    least_images=2,
    summary="shortens tokens that are longer than a quantile of the train norms",
    differs=OWN_BASELINE + "; cosine distances do not see it",
    cost=ONE_PASS,
)
FILL_OUTLIERS = RepairCard(
    name="fill_outliers",
    entry="vitbench.repairs.fill_outliers:FillOutliers",
    params=OutlierParams(),
    family="map",
    acts_on=GRID_KINDS,
    needs=("norms",),
    needs_fit=True,
    least_images=2,
    summary="replaces outlying tokens, by default those of outlying residual norm, by the mean of their sound neighbours",
    differs=OWN_BASELINE + "; by norm it is blind to artefacts of low norm (OpenAI CLIP)",
    cost="fit: one pass over the train norms; no forward at test time",
)
UNIT = RepairCard(
    name="unit",
    entry="vitbench.repairs.unit:Unit",
    params=NoParams(),
    family="map",
    acts_on=CHANNEL_KINDS,
    summary="scales every token to length one",
    differs=OWN_BASELINE,
    cost=NO_FIT,
)
RANDOM_DIMS = RepairCard(
    name="random_dims",
    entry="vitbench.repairs.random_dims:RandomDims",
    params=RandomDimsParams(),
    family="map",
    acts_on=CHANNEL_KINDS,
    role="control",
    summary="drops as many channels as remove_high_variance, chosen at random",
    differs="negative control",
    cost=NO_FIT,
)
SMOOTH3 = RepairCard(
    name="smooth3",
    entry="vitbench.repairs.smooth3:Smooth3",
    params=Smooth3Params(),
    family="map",
    acts_on=GRID_KINDS,
    role="control",
    summary="3x3 Gaussian over the grid: smoothing alone",
    differs="negative control",
    cost=NO_FIT,
)

REPAIR_CARDS: tuple[RepairCard, ...] = (
    NONE,
    REGISTERS,
    REMOVE_HIGH_VARIANCE,
    CENTER,
    ZSCORE,
    POSITION_MEAN,
    REMOVE_TOP_COMPONENTS,
    NORM_CLIP,
    FILL_OUTLIERS,
    UNIT,
    RANDOM_DIMS,
    SMOOTH3,
)
