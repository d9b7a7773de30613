"""Whether a data set is there, as it should be, and what to do where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitbench.catalogue import DATASETS
from vitbench.catalogue.cards import DatasetCard
from vitbench.data.fetch import checksum, downloads_dir
from vitbench.data.layout import Layout, index_of, open_split, place_of
from vitbench.errors import DataError, UnavailableError

SAMPLED = 4  # images of each split that `verify` decodes, with their targets


@dataclass(frozen=True)
class DatasetStatus:
    """ready: every split is complete; partial: some are; damaged: something is not as released; missing: no folder."""

    name: str
    state: Literal["ready", "partial", "damaged", "missing", "generated"]
    place: str = ""
    splits: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    remedy: str = ""


def status(card: DatasetCard, root: Path | None) -> DatasetStatus:
    """What is there of a data set. Lists files (remembered), opens no image."""
    if card.release is None:
        return DatasetStatus(card.name, "generated", splits=dict(card.splits))
    try:
        place, _ = place_of(card, root)
    except UnavailableError as error:
        return DatasetStatus(card.name, "missing", problems=(error.message,), remedy=error.remedy)
    layout: Layout = DATASETS.load(card.name)
    splits, problems = {}, []
    for split in card.splits:
        try:
            splits[split] = len(index_of(layout, card, split, root).table)
        except UnavailableError as error:
            problems.append(f"{split}: {error}")
    state: Literal["ready", "partial", "damaged"] = "partial" if splits else "damaged"
    return DatasetStatus(
        card.name,
        state if problems else "ready",
        str(place),
        splits,
        tuple(problems),
        card.release.remedy() if problems else "",
    )


def verify(card: DatasetCard, root: Path | None) -> DatasetStatus:
    """`status`, the listed checksums of archives that were kept, and a few samples of every split decoded."""
    found = status(card, root)
    if card.release is None or found.state == "missing":
        return found
    problems = list(found.problems)
    if root is not None:
        for download in card.release.downloads:
            file = downloads_dir(root) / download.file
            if download.md5 and file.is_file() and (md5 := checksum(file)) != download.md5:
                problems.append(f"{file} has md5 {md5}, not {download.md5}: delete it and fetch it again")
    for split in found.splits:
        problems += _unreadable(card, split, root)
    if problems == list(found.problems):
        return found
    return DatasetStatus(card.name, "damaged", found.place, found.splits, tuple(problems), card.release.remedy())


def _unreadable(card: DatasetCard, split: str, root: Path | None) -> list[str]:
    problems, layout = [], DATASETS.load(card.name)
    for target in card.targets:
        try:
            samples = open_split(layout, card, split, (target,), None, 0, root)
        except UnavailableError:
            continue  # not every split has every target
        for i in _spread(len(samples)):
            try:
                samples[i]
            except DataError as error:
                problems.append(f"{split}: {error}")
    return problems


def _spread(count: int) -> Sequence[int]:
    """A few places from the first to the last."""
    return sorted({round(i * (count - 1) / (SAMPLED - 1)) for i in range(SAMPLED)})
