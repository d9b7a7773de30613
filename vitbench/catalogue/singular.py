"""Cards of the repairs by singular defect directions, and of the baselines beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitbench.catalogue.cards import RepairCard, Source
from vitbench.catalogue.repairs import (
    CHANNEL_KINDS,
    GRID_KINDS,
    NO_FIT,
    ONE_PASS,
    OWN_BASELINE,
    NoParams,
    OutlierParams,
)
from vitbench.errors import UsageError

SingularRule = Literal["robust", "published"]


@dataclass(frozen=True)
class SinderParams:
    """rule: `robust` (|cos| > median + 5 x 1.4826 x MAD of all train tokens) or `published`, within each image:
    |cos| > mean + 4 sd, where at least 3 tokens are.

    The published rule cannot flag more than 1 token in 17: beyond that none is 4 deviations from the mean.
    """

    rule: SingularRule = "robust"


@dataclass(frozen=True)
class SinderTuningParams:
    """What is trained, and which tokens are defective; numbers are the published ones, but for lr (0.005).

    rule: `robust` (ours: blocks whose direction tokens of a twentieth of the images come within 40 degrees of; there,
    |cos| > median + 5 x 1.4826 x MAD of train tokens) or `published` (any block, within each image |cos| > mean +
    `threshold` sd). least: flags that make an image defective (0: as many as 3 are in 37 x 37 cells). kernel: side of the
    neighbourhood, 3 or 5. layers: blocks trained, the first defective one the last of them. lr, momentum: of SGD. batch:
    images a step. steps: at most; epochs: over the fit images, at most. history, stop: the share of sound images that
    ends the fit, and over how many (no more than there are).
    """

    rule: SingularRule = "robust"
    threshold: float = 4.0
    least: int = 0
    kernel: Literal[3, 5] = 3
    layers: int = 10
    lr: float = 0.001
    momentum: float = 0.9
    batch: int = 1
    steps: int = 30_000
    epochs: int = 1
    history: int = 1000
    stop: float = 0.75

    def __post_init__(self) -> None:
        if self.kernel not in (3, 5):
            raise UsageError(f"sinder: kernel={self.kernel} has no Gaussian", "use 3 or 5")
        for name in ("layers", "batch", "steps", "epochs", "history"):
            if getattr(self, name) < 1:
                raise UsageError(f"sinder: {name}={getattr(self, name)} is less than one")
        if self.lr <= 0 or not 0 <= self.momentum < 1 or not 0 < self.stop <= 1 or self.least < 0:
            raise UsageError("sinder: lr is above 0, momentum in [0, 1), stop in (0, 1], least 0 or more")


@dataclass(frozen=True)
class PcaWhitenParams:
    """d: components to keep, as a number (int) or a fraction of the channels (float)."""

    d: int | float = 0.5

    def __post_init__(self) -> None:
        if self.d <= 0 or (isinstance(self.d, float) and self.d > 1):
            raise UsageError(
                f"pca_whiten: d={self.d} is neither a number of components nor a fraction of the channels",
                "use d=64 or d=0.5",
            )


_SINDER = Source("Wang et al.", 2024, "2407.16826", "https://github.com/haoqiwang/sinder")
_NO_LICENCE = "none (implemented from the description)"
_DIRECTIONS = "fit: an eigendecomposition per block and two passes over the train tokens; no forward at test time"

SINDER = RepairCard(
    name="sinder",
    entry="vitbench.repairs.sinder:Sinder",
    params=SinderTuningParams(),
    family="weights",
    acts_on=("*",),
    needs_fit=True,
    least_images=2,
    edits=True,
    needs_vit=True,
    stochastic=True,
    summary="fine-tunes singular values until tokens along a block's singular defect direction look like their neighbours",
    source=_SINDER,
    upstream_licence=_NO_LICENCE,
    published_for="DINOv2 ViT-g/14",
    differs="published at 518 px, fitted on 30,504 ImageNet images; here any ViT, registers and GELU too, on "
    "the data set's own train images in the task's view; directions are exact instead of sampled; the history is no longer "
    "than the train split. Tokens are judged against all train tokens, in blocks whose direction some come near: the "
    "published rule (rule=published,least=3) finds 46 % of the clean lab_ssl's images defective and 24 % of its planted outliers. "
    "lr=0.001, chosen on train scenes: the published 0.005 (lr=0.005) moves small ViTs too far in their first few steps. "
    "Measured on planted outliers (k-NN segmentation, val, one seed; recovered of accuracy on the planted tokens and of "
    "mIoU): lab_ssl 98 % and 73 % (lr=0.005: 96 % and 59 %), DeiT-Tiny on photographs 81 % and 78 % (lr=0.005: 54 % and "
    "29 %). Not applicable to the clean ones. Blind to a gated neuron that a standard normal input hardly ever sets off",
    cost="fit: up to one forward and backward of every train image up to its first defective block (24 s of one core for "
    "200 images of the lab); a pass of its own, at the cost of the backbone",
)
SINDER_FILL = RepairCard(
    name="sinder_fill",
    entry="vitbench.repairs.sinder_fill:SinderFill",
    params=SinderParams(),
    family="map",
    acts_on=GRID_KINDS,
    needs=("patch_raw",),
    needs_fit=True,
    least_images=2,
    needs_vit=True,
    summary="replaces tokens along a block's singular defect direction by the mean of their sound neighbours",
    source=_SINDER,
    upstream_licence=_NO_LICENCE,
    published_for="DINOv2 ViT-g/14",
    differs="the detector alone, a fill in place of SINDER's fine-tuning; tokens are "
    "judged behind the last block, with the direction of the block along which outlying train tokens lie most "
    "(published: that of the first defective block, on its own output); border tokens are filled too; the slope of the "
    "MLP is exact instead of sampled; the default threshold is fitted on train tokens",
    cost=_DIRECTIONS,
)
SINDER_PROJECT = RepairCard(
    name="sinder_project",
    entry="vitbench.repairs.sinder_project:SinderProject",
    params=SinderParams(),
    family="map",
    acts_on=("patch", "patch_raw"),
    needs=("patch_raw",),
    needs_fit=True,
    least_images=2,
    needs_vit=True,
    summary="projects a block's singular defect direction out of every token",
    source=_SINDER,
    upstream_licence=_NO_LICENCE,
    published_for="DINOv2 ViT-g/14",
    differs="a training-free use of the direction that SINDER repairs by fine-tuning, chosen as in sinder_fill; behind the "
    "final norm it is the direction that norm makes of it; it knows the backbone's own tokens, so it stands first in a "
    "chain",
    cost=_DIRECTIONS,
)
PROJECT_OUT = RepairCard(
    name="project_out",
    entry="vitbench.repairs.project_out:ProjectOut",
    params=OutlierParams(),
    family="map",
    acts_on=GRID_KINDS,
    needs=("norms",),
    needs_fit=True,
    least_images=2,
    summary="projects the mean direction of outlying train tokens, by default those of outlying norm, out of every token",
    differs=OWN_BASELINE,
    cost="fit: two passes over the train tokens; no forward at test time",
)
PCA_WHITEN = RepairCard(
    name="pca_whiten",
    entry="vitbench.repairs.pca_whiten:PcaWhiten",
    params=PcaWhitenParams(),
    family="map",
    acts_on=CHANNEL_KINDS,
    needs_fit=True,
    least_images=2,
    summary="keeps the first principal components of train tokens, each scaled to unit variance",
    differs=OWN_BASELINE + "; costs the clean lab_ssl 2.5 points of k-NN mIoU",
    cost=ONE_PASS + "; fewer channels after it",
)
MEDIAN3 = RepairCard(
    name="median3",
    entry="vitbench.repairs.median3:Median3",
    params=NoParams(),
    family="map",
    acts_on=GRID_KINDS,
    role="control",
    summary="3x3 median of every channel over the grid: smoothing that single outliers do not move",
    differs="negative control",
    cost=NO_FIT,
)
ZERO_IMAGE = RepairCard(
    name="zero_image",
    entry="vitbench.repairs.zero_image:ZeroImage",
    params=NoParams(),
    family="map",
    acts_on=GRID_KINDS,
    needs_fit=True,
    summary="subtracts the tokens of an image of the mean colour and adds back their mean",
    source=Source("Yang et al.", 2024, "2401.02957"),
    upstream_licence="MIT",
    published_for="shown, not subtracted, for the models of DVT",
    differs="a baseline: DVT shows the tokens of an empty image, it does not subtract them; it knows the backbone's own "
    "tokens, so it stands first in a chain",
    cost="fit: one forward; none at test time",
)

SINGULAR_CARDS: tuple[RepairCard, ...] = (
    SINDER,
    SINDER_FILL,
    SINDER_PROJECT,
    PROJECT_OUT,
    PCA_WHITEN,
    MEDIAN3,
    ZERO_IMAGE,
)
