"""Card of unsupervised object discovery."""

from __future__ import annotations

from dataclasses import dataclass

from vitbench.catalogue.cards import Protocol, Source, TaskCard, TaskSettings
from vitbench.catalogue.tasks.settings import setting


@dataclass(frozen=True)
class LostSettings(TaskSettings):
    """Settings of `object_discovery@lost`."""

    field: str = setting("auto", "token field that is read; auto: what the backbone's card names for LOST, mostly key")
    view: str = "whole"
    k: int = setting(100, "patches of lowest degree among which those similar to the seed are taken")
    gram_bias: float = setting(0.0, "added to every entry of the Gram matrix")
    centre: bool = setting(False, "subtract the image's mean token first")


OBJECT_DISCOVERY = TaskCard(
    name="object_discovery",
    entry="vitbench.tasks.object_discovery:ObjectDiscovery",
    title="Object discovery",
    family="dense",
    metric="boxes",
    headline="CorLoc",
    targets=("boxes",),
    splits=("val",),
    summary="One box per image from the Gram matrix of its keys, no training.",
    protocols=(
        Protocol(
            name="lost",
            version=1,
            settings=LostSettings(),
            summary="The patch with the fewest positive correlations seeds the object; it grows over similar low-degree "
            "patches; the seed's connected component gives the box. CorLoc counts IoU of at least 0.5 with any true box.",
            source=Source("Simeoni et al.", 2021, "2109.14279", "https://github.com/valeoai/LOST"),
            differs="Ties in degree go to the lowest index (the reference's order depends on the device); a seed outside the "
            "mask gives its own cell as box and is counted (the reference raises). Images without boxes are left out and "
            "counted. Beside CorLoc stand those of the whole image and of a centred box, and the share of degenerate boxes "
            "(more than 95 % of the image): an all-positive Gram matrix gives the whole image every time.",
        ),
    ),
)
