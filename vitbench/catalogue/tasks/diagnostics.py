"""Cards of diagnostics: what tokens are like, whatever a task makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import OutlierSettings, setting

_REGISTERS = Source("Darcet et al.", 2023, "2309.16588")
_SPLIT_OUTLIERS = (
    "Outliers have a norm above median + k_mad x MAD of the tokens of the measured split (of its first 1,000 "
    "images): the paper's cut-off is set by hand per model."
)
_OWN = "A measure of this suite, in closed form. "


@dataclass(frozen=True)
class NeighbourSettings(OutlierSettings):
    """Settings of `neighbour_similarity@registers`."""

    field: str = "patch_embed"


@dataclass(frozen=True)
class SingularSettings(OutlierSettings):
    """Settings of `singular_alignment@sinder`."""

    field: str = "singular_cosine"
    block: int = setting(-1, "block whose norms tell outliers, and of the headline; angles of all blocks are reported")


@dataclass(frozen=True)
class RankSettings(TaskSettings):
    """Settings of `rank@rankme`."""

    t: float = setting(
        2.0, "uniformity is the log of the mean of exp(-t |u - v|^2) over pairs of tokens at unit length"
    )


NEIGHBOUR_SIMILARITY = TaskCard(
    name="neighbour_similarity",
    entry="vitbench.tasks.neighbour_similarity:NeighbourSimilarity",
    title="Neighbour similarity",
    family="diagnostic",
    metric="neighbours",
    headline="AUROC",
    splits=("val",),
    aux=lambda _: ("norms",),
    summary="Whether outlier tokens stand where the image repeats itself.",
    protocols=(
        Protocol(
            name="registers",
            version=1,
            settings=NeighbourSettings(),
            summary="Cosine of a patch's projection (before positions) with each of its 4 neighbours, grouped by "
            "whether the token at its place is an outlier after `block`. Mean and median of both groups, and the "
            "AUROC of the cosine as a predictor of outliers: 50 says that outliers are anywhere.",
            source=_REGISTERS,
            differs="The paper shows the two densities; the numbers are ours. Medians and the AUROC come from "
            "histograms of 400 bins. Undefined where there is no outlier. " + _SPLIT_OUTLIERS,
        ),
    ),
)

POSITION_LEAKAGE = TaskCard(
    name="position_leakage",
    entry="vitbench.tasks.position_leakage:PositionLeakage",
    title="Position leakage",
    family="diagnostic",
    metric="leakage",
    headline="explained",
    summary="How much of a token is its place in the grid.",
    protocols=(
        Protocol(
            name="variance",
            version=1,
            settings=TaskSettings(),
            summary="Share of the variance of val tokens that the mean train token of their position explains; the "
            "same for the mean of their row and of their column, which tells stripes from blobs. Corrected for the "
            "number of train images, so that tokens without position have an expectation of 0.",
            differs=_OWN + "It is linear and sums over channels, where DVT (Yang et al. 2024, arXiv 2401.02957) "
            "takes the largest maximal information coefficient of any channel, which is `position_mic`. After `position_mean`, "
            "fitted on the same train images, train means are alike at all positions: what is left is the correction alone, "
            "100 / (train images + 1) for every image.",
        ),
    ),
)

RANK = TaskCard(
    name="rank",
    entry="vitbench.tasks.rank:Rank",
    title="Rank",
    family="diagnostic",
    metric="rank",
    headline="effective_rank",
    splits=("val",),
    summary="Over how many directions tokens spread, and how evenly.",
    protocols=(
        Protocol(
            name="rankme",
            version=1,
            settings=RankSettings(),
            summary="exp of the entropy of the singular values of an image's tokens (mean over images) and of all "
            "tokens of the split; uniformity is the log of the mean Gaussian kernel over the pairs of an image's "
            "tokens at unit length.",
            source=Source("Garrido et al.", 2022, "2210.02885"),
            differs="The paper takes one vector per image; here patch tokens, image by image, neither centred nor "
            "scaled. An image's rank is at most its number of tokens: compare within one grid. Uniformity is that of "
            "Wang and Isola 2020 (arXiv 2005.10242) on patch tokens.",
        ),
    ),
)

SINGULAR_ALIGNMENT = TaskCard(
    name="singular_alignment",
    entry="vitbench.tasks.singular_alignment:SingularAlignment",
    title="Singular alignment",
    family="diagnostic",
    metric="singular",
    headline="angle_peak_closest_block",
    splits=("val",),
    aux=lambda _: ("norms",),
    summary="Whether outlier tokens lie along the direction that a block writes whatever it reads.",
    protocols=(
        Protocol(
            name="sinder",
            version=1,
            settings=SingularSettings(),
            summary="Angle (0 to 90 degrees) between tokens after each block and the first left singular vector of the "
            "network up to that block as one linear map of a single token: of each image's token with the largest norm "
            "(`peak`), of outliers and of normal tokens; at the block where it is smallest, at `block`, and at every block.",
            source=Source("Wang et al.", 2024, "2407.16826", "https://github.com/haoqiwang/sinder"),
            differs="Directions are exact instead of sampled, and those of the network as it runs. Chance is near 90 "
            "degrees in many channels. " + _SPLIT_OUTLIERS,
        ),
    ),
)
