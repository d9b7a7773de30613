"""What every card of a released data set says: a fact may be missing only where it is listed here as not found.

A list that is too long fails too, so that it shrinks when a fact is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.dataset_cards import RELEASED
from vitbench.catalogue.release import class_names, palette

# Neither the page of the release nor the authors' repository nor a library's module that could be read said it.
NO_LICENCE = (
    "cars", "cub", "dut_omron", "duts_te", "ecssd", "flowers", "imagenet_segmentation", "nyu_depth_v2", "nyu_labelled",
    "places205", "rparis6k", "spair71k", "sun397", "sun_rgbd",
)  # fmt: skip
NO_SIZE = (
    "bdd100k_tracking", "camvid", "dut_omron", "imagenet_segmentation", "nyu_depth_v2", "pascal_context", "pascal_context59",
    "places205", "roxford5k", "rparis6k", "sun_rgbd",
)  # fmt: skip
# Frames of tracks and images of pairs were never counted in public, pixelmaps of stuff neither, and of NAVI the sum only.
NO_COUNTS = ("bdd100k_tracking", "coco_stuff", "navi", "spair71k")
# The release itself names its classes, in lists or folders.
NAMES_IN_THE_DATA = (
    "aircraft", "caltech101", "cars", "cub", "food101", "imagenet1k", "pets", "places205", "sun397",
)  # fmt: skip
# Masks of index or of one object, for which the release has no colours that could be read.
NO_PALETTE = (
    "coco_stuff", "coco_things", "davis2016", "dut_omron", "duts_te", "ecssd", "imagenet_segmentation", "pascal_context",
    "pascal_context59",
)  # fmt: skip


def _size(card: DatasetCard) -> str:
    assert card.release is not None
    return card.release.size


def _obtain(card: DatasetCard) -> str:
    assert card.release is not None
    return card.release.obtain


def _cited(card: DatasetCard) -> bool:
    source = card.source
    return source is not None and bool(source.authors and source.year and (source.arxiv or source.url))


def _named(card: DatasetCard) -> bool:
    """Names of what its masks and labels hold; numbered objects have none."""
    card, targets = card.named(), set(card.targets)
    masks = "segmentation" not in targets or "frames" in targets or bool(card.classes)
    return masks and (not {"label", "labels"} & targets or bool(card.label_classes or card.classes))


FACTS: dict[str, tuple[Callable[[DatasetCard], object], tuple[str, ...]]] = {
    "licence": (lambda card: card.licence, NO_LICENCE),
    "size": (_size, NO_SIZE),
    "counts": (lambda card: card.splits and all(card.splits.values()), NO_COUNTS),
    "citation": (_cited, ()),
    "how to obtain": (_obtain, ()),
    "classes": (_named, NAMES_IN_THE_DATA),
    "palette": (lambda card: card.palette or "segmentation" not in card.targets, NO_PALETTE),
}


@pytest.mark.parametrize("fact", FACTS)
def test_only_the_cards_listed_lack_a_fact(fact: str) -> None:
    says, lacking = FACTS[fact]
    assert sorted(card.name for card in RELEASED if not says(card)) == sorted(lacking)


@pytest.mark.parametrize("card", RELEASED, ids=lambda card: str(card.name))
def test_sizes_checksums_and_colours_are_well_formed(card: DatasetCard) -> None:
    assert card.release is not None
    assert re.fullmatch(r"(\d+(\.\d+)? [MG]B)?", card.release.size)
    for download in card.release.downloads:
        assert re.fullmatch(r"https?://[^?]+/[^/?]+", download.url)
        assert re.fullmatch(r"([0-9a-f]{32})?", download.md5)
    if card.palette not in ("", "voc"):
        assert len(set(palette(card.palette))) >= len(card.named().classes) - 1  # ADE20K has one colour twice
        assert len(palette(card.palette)) == len(card.named().classes)


def test_where_sizes_and_checksums_were_read_is_said() -> None:
    told_by_the_release = {"cityscapes", "imagenet1k", "nyu_labelled", "voc2012_aug"}
    unsaid = {c.name for c in RELEASED if c.release and c.release.size and not c.release.facts_from}
    assert unsaid == told_by_the_release


def test_labels_of_voc_are_its_classes_but_the_background() -> None:
    assert class_names("voc_objects") == class_names("voc")[1:]
