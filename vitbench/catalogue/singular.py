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

SINDER_FILL = RepairCard(
    name="sinder_fill",
    entry="vitbench.repairs.sinder_fill:SinderFill",
    params=SinderParams(),
    family="map",
    acts_on=GRID_KINDS,
    needs=("patch_raw",),
    needs_fit=True,
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
    summary="keeps the first principal components of train tokens, each scaled to unit variance",
    differs=OWN_BASELINE,
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

SINGULAR_CARDS: tuple[RepairCard, ...] = (SINDER_FILL, SINDER_PROJECT, PROJECT_OUT, PCA_WHITEN, MEDIAN3, ZERO_IMAGE)
