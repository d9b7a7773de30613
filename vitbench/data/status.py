"""Whether a data set is there, as it should be, and what to do where it is not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitbench.catalogue import DATASETS
from vitbench.catalogue.cards import DatasetCard
from vitbench.data.fetch import checksum, downloads_dir
from vitbench.data.layout import Layout, index_of, open_split, place_of
from vitbench.data.tree import HALF_UNPACKED
from vitbench.errors import DataError, UnavailableError

SAMPLED = 4  # images of each split that `verify` decodes, with their targets


@dataclass(frozen=True)
class DatasetStatus:
    """ready: every split is complete; partial: some are; damaged: something is not as released; missing: nothing there."""

    name: str
    state: Literal["ready", "partial", "damaged", "missing", "generated"]
    place: str = ""
    splits: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    remedy: str = ""


def status(card: DatasetCard, root: Path | None, again: bool = False) -> DatasetStatus:
    """What is there of a data set. Lists files (remembered, unless `again`), opens no image."""
    if card.release is None:
        return DatasetStatus(card.name, "generated", splits=dict(card.splits))
    try:
        place, _ = place_of(card, root)
    except UnavailableError as error:
        taken = [
            root / name for name in (card.release.folder, *card.release.also) if root and os.path.lexists(root / name)
        ]
        if taken:  # a file, a dead link, or two folders
            return DatasetStatus(card.name, "damaged", str(taken[0]), problems=(error.message,), remedy=error.remedy)
        return DatasetStatus(card.name, "missing", problems=(error.message,), remedy=error.remedy)
    layout: Layout = DATASETS.load(card.name)
    splits, errors = {}, {}
    for split in card.splits:
        try:
            splits[split] = len(index_of(layout, card, split, root, again).table)
        except UnavailableError as error:
            errors[split] = error
    problems = tuple(f"{split}: {error}" for split, error in errors.items())
    if not errors:
        return DatasetStatus(card.name, "ready", str(place), splits)
    if not splits and _shared(card) and all(error.remedy == HALF_UNPACKED for error in errors.values()):
        return DatasetStatus(card.name, "missing", "", {}, problems, card.release.remedy())  # others' files alone
    return DatasetStatus(
        card.name, "partial" if splits else "damaged", str(place), splits, problems, card.release.remedy()
    )


def _shared(card: DatasetCard) -> bool:
    """Whether other data sets lie in the same folder."""
    return any(
        c.release and card.release and c.release.folder == card.release.folder and c.name != card.name for c in DATASETS
    )


def verify(card: DatasetCard, root: Path | None) -> DatasetStatus:
    """`status`, the listed checksums of archives that were kept, empty files, and a few samples of every split decoded."""
    found = status(card, root, again=True)
    if card.release is None or found.state == "missing":
        return found
    problems = list(found.problems)
    if root is not None:
        for download in card.release.downloads:
            file = downloads_dir(root) / download.file
            if download.md5 and file.is_file() and (md5 := checksum(file)) != download.md5:
                problems.append(f"{file} has md5 {md5}, not {download.md5}: delete it and fetch it again")
    for split in found.splits:
        problems += _empty(card, split, root)
        problems += _unreadable(card, split, root)
    if problems == list(found.problems):
        return found
    return DatasetStatus(card.name, "damaged", found.place, found.splits, tuple(problems), card.release.remedy())


def _empty(card: DatasetCard, split: str, root: Path | None) -> list[str]:
    """Files without content, all of which the index knows: what a full disk leaves of an archive."""
    index = index_of(DATASETS.load(card.name), card, split, root)
    sized = [name for name in index.table.column_names if name.endswith("_bytes")]
    columns = [(index.table[name.removesuffix("_bytes")].to_pylist(), index.table[name].to_pylist()) for name in sized]
    empty = sorted(
        {
            file.partition("#")[0]
            for files, sizes in columns
            for file, size in zip(files, sizes, strict=True)
            if size == 0
        }
    )
    return [f"{split}: {len(empty):,} files are empty, first {index.place / empty[0]}"] if empty else []


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
