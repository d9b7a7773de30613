"""Cards of unsupervised object discovery and of saliency."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting

_FIELD = "token field that is read; auto: what the backbone's card names for LOST, mostly key"
_BASELINES = (
    " Images without boxes are left out; the measure `images` is how many are scored. Beside CorLoc stand those of the whole "
    "image and of a centred box, and the share of degenerate boxes (more than 95 % of the image)"
)
_LOST = Source("Simeoni et al.", 2021, "2109.14279", "https://github.com/valeoai/LOST")
_TOKENCUT = Source("Wang et al.", 2022, "2202.11539", "https://github.com/YangtaoWANG95/TokenCut")


@dataclass(frozen=True)
class DiscoverySettings(TaskSettings):
    """What every protocol of object discovery has: images as they are, padded to a multiple of the patch."""

    field: str = setting("auto", _FIELD)
    view: str = "whole"


@dataclass(frozen=True)
class BoxSettings(DiscoverySettings):
    """What every protocol that scores boxes has."""

    no_hard: bool = setting(
        False,
        "leave out true boxes marked difficult or truncated, and images that then have none (LOST's VOC_all)",
        later=True,
    )


@dataclass(frozen=True)
class LostSettings(BoxSettings):
    """Settings of `object_discovery@lost`."""

    k: int = setting(100, "patches of lowest degree among which those similar to the seed are taken")
    gram_bias: float = setting(0.0, "added to every entry of the Gram matrix")
    centre: bool = setting(False, "subtract the image's mean token first")
    unit: bool = setting(False, "bring tokens to unit length (after centring)", later=True)
    binary: bool = setting(
        False, "sum which patches are similar (the paper's equation), not how similar (the released code)", later=True
    )


@dataclass(frozen=True)
class SweptSettings(BoxSettings):
    """Settings of `object_discovery@lost_swept`."""

    field: str = setting("key", "on what a repair must act; all of the swept fields are read")
    k: int = setting(100, "patches of lowest degree among which those similar to the seed are taken")
    blocks: int = setting(4, "last blocks whose keys, queries and values are tried")
    bias_steps: int = setting(
        4, "Gram biases tried beside none: minus the quantiles i / (bias_steps + 1) of the image's own Gram matrix"
    )
    select_images: int = setting(500, "images of the other half on which the variant of each half is chosen, at most")

    def fields(self) -> tuple[str, ...]:
        """Keys, queries and values of the last blocks, the last first."""
        ends = ["", *(f"_-{block}" for block in range(2, self.blocks + 1))]
        return tuple(kind + end for end in ends for kind in ("key", "query", "value"))


@dataclass(frozen=True)
class CutSettings(DiscoverySettings):
    """What every cut in two has."""

    field: str = setting("key", "token field that is read")
    tau: float = setting(0.2, "tokens with a cosine above tau are joined, all others by 1e-5")


@dataclass(frozen=True)
class TokenCutSettings(CutSettings, BoxSettings):
    """Settings of `object_discovery@tokencut`."""


@dataclass(frozen=True)
class LostNormSettings(BoxSettings):
    """Settings of `object_discovery@lost_norm`."""

    field: str = "patch"
    k: int = setting(100, "patches of largest norm among which those similar to the seed are taken")


def _marks(settings: BoxSettings) -> tuple[str, ...]:
    return ("boxes_hard",) if settings.no_hard else ()


def _swept_fields(settings: DiscoverySettings) -> tuple[str, ...]:
    return settings.fields() if isinstance(settings, SweptSettings) else ()


OBJECT_DISCOVERY = TaskCard(
    name="object_discovery",
    entry="vitbench.tasks.object_discovery:ObjectDiscovery",
    title="Object discovery",
    family="dense",
    metric="boxes",
    headline="CorLoc",
    targets=("boxes",),
    splits=("val",),
    aux=_swept_fields,
    marks=_marks,
    summary="One box per image from the Gram matrix of its keys, no training.",
    protocols=(
        Protocol(
            name="lost",
            version=1,
            settings=LostSettings(),
            summary="The patch with the fewest positive correlations seeds the object; it grows over similar low-degree "
            "patches; the seed's connected component gives the box. CorLoc counts IoU of at least 0.5 with any true box.",
            source=_LOST,
            differs="Ties in degree go to the lowest index (the reference's order depends on the device); a seed outside the "
            "mask gives its own cell as box and is counted (the reference raises)."
            + _BASELINES
            + ": an all-positive Gram "
            "matrix gives the whole image every time.",
        ),
        Protocol(
            name="lost_swept",
            version=1,
            settings=SweptSettings(),
            summary="LOST over keys, queries and values of the last blocks, raw, centred or centred at unit length, with and "
            "without a bias on the Gram matrix. Images fall in two halves by key hash; each half is measured with the variant "
            "that found most objects in the other. The record names both.",
            source=Source("Darcet et al.", 2023, "2309.16588"),
            selection="heldout",
            differs="The paper's bias and its choice are not published, and others report the best of such a sweep on the "
            "images that are scored; here nothing is scored on images that it was chosen on. Biases are quantiles of an image's "
            "own Gram matrix (read from 64 of its rows), so that they mean the same for every backbone. Ties in the choice go to "
            "the plainest variant." + _BASELINES + ".",
        ),
        Protocol(
            name="tokencut",
            version=1,
            settings=TokenCutSettings(),
            summary="A normalised cut of the image's keys in two; the part above the mean of the second eigenvector that is "
            "connected with its most extreme patch gives the box.",
            source=_TOKENCUT,
            differs="The eigenvector comes from Lanczos iteration instead of a dense solver, with a fixed start. Of patches with "
            "equal rows of the graph, which tie for the most extreme, the first is taken (the reference's depends on "
            "rounding). DINOv3 (arXiv 2508.10104) cuts output tokens and reports the best of nine tau: `field=patch,tau=...`."
            + _BASELINES
            + ".",
        ),
        Protocol(
            name="lost_norm",
            version=1,
            settings=LostNormSettings(),
            summary="LOST on final tokens with the norm of a token in place of its inverse degree: the largest seeds the object, "
            "and it grows over similar patches among the k largest.",
            source=Source("Yang et al.", 2024, "2401.02957"),
            differs="Our reading of one sentence in the paper (feature norms as an indicator of object prominence); its code is "
            "not published. Final tokens because its denoiser gives no keys. Not comparable with `lost`."
            + _BASELINES
            + ".",
        ),
    ),
)


@dataclass(frozen=True)
class SaliencySettings(CutSettings):
    """Settings of `saliency@tokencut`."""

    component: bool = setting(False, "keep only the part of the mask that is connected with the most extreme patch")


SALIENCY = TaskCard(
    name="saliency",
    entry="vitbench.tasks.saliency:Saliency",
    title="Saliency",
    family="dense",
    metric="saliency",
    headline="maxF",
    targets=("segmentation",),
    splits=("val",),
    summary="The object of an image as a mask, no training.",
    protocols=(
        Protocol(
            name="tokencut",
            version=1,
            settings=SaliencySettings(),
            summary="The second eigenvector of the normalised cut of the image's keys, brought to 0..1, is the saliency map; its "
            "part above the mean is the mask. maxF has beta squared 0.3 over 255 thresholds, precision and recall averaged over "
            "images first.",
            source=_TOKENCUT,
            differs="Without the bilateral solver, which reads the pixels and not the tokens. maxF is that of the eigenvector "
            "itself; the reference's is that of a mask. The released code averages the F of images at each threshold, not their "
            "precision and recall, takes what is above a threshold and not what reaches it, and counts an empty mask as "
            "precise. Maps and masks go to the annotation's size bilinearly. Images are not "
            "resized to a multiple of the patch but padded. On data sets with several classes the mask is that of every "
            "object class; images without any are left out and counted.",
        ),
    ),
)
