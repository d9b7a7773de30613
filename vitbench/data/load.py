"""Data sets by name: registered ones and `folder:PATH`. Planning reads cards and listings; only `load` decodes."""

from __future__ import annotations

import contextlib
import inspect
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.catalogue import DATASETS
from vitbench.catalogue.cards import DatasetCard
from vitbench.data import layout
from vitbench.data.subset import Described, Limit
from vitbench.errors import UnavailableError, UsageError
from vitbench.identity import digest

if TYPE_CHECKING:
    import datasets

FOLDER = "folder:"


def describe_dataset(name: str, root: Path | None = None) -> DatasetCard:
    """The card of a data set: a registered one, or what is found in `folder:PATH`. Imports no torch."""
    if (path := _folder(name, root)) is not None:
        from vitbench.data.folder import describe

        return replace(describe(path), name=name)
    return _named(DATASETS.get(name), root)


def _named(card: DatasetCard, root: Path | None) -> DatasetCard:
    """The card with the names of its classes, those of labels from the data where only they know."""
    if card.release is None:
        return card
    card = card.named()
    if not card.label_classes and {"label", "labels"} & set(card.targets):
        with contextlib.suppress(UnavailableError):  # a card can be read without the data
            split = layout.require_split(card, "train", card.targets)
            labels = layout.label_classes(DATASETS.load(card.name), card, split, root)
            card = replace(card, label_classes=labels)
    return card


def describe_split(
    name: str,
    split: str,
    *,
    targets: tuple[str, ...] = (),
    limit: Limit = None,
    seed: int = 0,
    root: Path | None = None,
) -> Described:
    """How many samples `load` gives for the same arguments, and digests of which. Decodes nothing.

    Raises UnavailableError where the data are not on this machine, UsageError for a split that does not exist.
    """
    if (path := _folder(name, root)) is not None:
        from vitbench.data.folder import describe_split as of_folder

        return of_folder(path, split, targets, limit, seed)
    card, split = _checked(name, split, targets)
    if card.release is not None:
        return layout.describe_split(DATASETS.load(card.name), card, split, targets, limit, seed, root)
    if isinstance(limit, str):
        raise UsageError(f"dataset {name!r} is made, not stored: {limit!r} has nothing to choose from", "use --limit")
    count = card.splits[split] if limit is None else min(limit, card.splits[split])
    return Described(count, digest([card.name, card.version, split, count, *filter(None, [card.code])]))


def load(
    name: str,
    split: str,
    *,
    targets: tuple[str, ...] = (),
    limit: Limit = None,
    seed: int = 0,
    root: Path | None = None,
    least_px: int = 0,
) -> datasets.Dataset:
    """The samples of a split that have all targets, as a `datasets.Dataset` with columns key, image and the targets.

    least_px: see `read_image`; for released data sets. The entry of a registered data set without a release is called
    with the split and with those of `targets`, `limit`, `seed` and `root` that it takes.
    """
    if (path := _folder(name, root)) is not None:
        from vitbench.data.folder import load as load_folder

        return load_folder(path, split, targets, limit, seed)
    card, split = _checked(name, split, targets)
    loader = DATASETS.load(card.name)
    if card.release is not None:
        return layout.open_split(loader, card, split, targets, limit, seed, root, least_px)
    offered: dict[str, Any] = {"targets": targets, "limit": limit, "seed": seed, "root": root}
    taken = inspect.signature(loader).parameters
    found: datasets.Dataset = loader(split, **{key: value for key, value in offered.items() if key in taken})
    return found


def _checked(name: str, split: str, targets: tuple[str, ...]) -> tuple[DatasetCard, str]:
    """The card, and the split of the release that `split` means for tasks that read these targets."""
    card = DATASETS.get(name)
    split = layout.require_split(card, split, targets)
    lacking = [target for target in targets if target not in card.targets]
    if lacking:
        raise UnavailableError(f"dataset {name!r} has no {', '.join(lacking)}", f"it has {', '.join(card.targets)}")
    return card, split


def _folder(name: str, root: Path | None) -> Path | None:
    """The folder that `folder:PATH` means: PATH as it is, or below the data root; None for other names."""
    if name == FOLDER.rstrip(":"):
        raise UsageError("`folder` needs a path", "write folder:PATH")
    if not name.startswith(FOLDER):
        return None
    path = Path(name.removeprefix(FOLDER)).expanduser()
    if not path.parts:
        raise UsageError("`folder:` needs a path", "write folder:PATH")
    base = root or (Path(os.environ["VITBENCH_DATA"]).expanduser() if os.environ.get("VITBENCH_DATA") else None)
    if not path.is_absolute() and not path.exists() and base is not None and (base / path).exists():
        path = base / path
    return path
