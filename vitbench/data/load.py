"""Data sets by name: registered ones and `folder:PATH`. Planning reads cards and listings; only `load` decodes."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitbench.catalogue import DATASETS
from vitbench.catalogue.cards import DatasetCard
from vitbench.errors import UnavailableError, UsageError
from vitbench.identity import digest

if TYPE_CHECKING:
    import datasets

FOLDER = "folder:"


def describe_dataset(name: str, root: Path | None = None) -> DatasetCard:
    """The card of a data set: a registered one, or what is found in `folder:PATH`. Imports no torch."""
    if (path := _folder(name, root)) is not None:
        from dataclasses import replace

        from vitbench.data.folder import describe

        return replace(describe(path), name=name)
    return DATASETS.get(name)


def describe_split(
    name: str,
    split: str,
    *,
    targets: tuple[str, ...] = (),
    limit: int | None = None,
    seed: int = 0,
    root: Path | None = None,
) -> tuple[int, str]:
    """How many samples `load` gives for the same arguments, and a digest (16 hex) of which. Decodes nothing.

    Raises UnavailableError where the data are not on this machine, UsageError for a split that does not exist.
    """
    if (path := _folder(name, root)) is not None:
        from vitbench.data.folder import describe_split as of_folder

        return of_folder(path, split, targets, limit, seed)
    card = _checked(name, split, targets)
    count = card.splits[split] if limit is None else min(limit, card.splits[split])
    return count, digest([card.name, card.version, split, count])


def load(
    name: str,
    split: str,
    *,
    targets: tuple[str, ...] = (),
    limit: int | None = None,
    seed: int = 0,
    root: Path | None = None,
) -> datasets.Dataset:
    """The samples of a split that have all targets, as a `datasets.Dataset` with columns key, image and the targets.

    The entry of a registered data set is called with the split and with those of `targets`, `limit`, `seed` and `root`
    that it takes.
    """
    if (path := _folder(name, root)) is not None:
        from vitbench.data.folder import load as load_folder

        return load_folder(path, split, targets, limit, seed)
    card = _checked(name, split, targets)
    loader = DATASETS.load(card.name)
    offered: dict[str, Any] = {"targets": targets, "limit": limit, "seed": seed, "root": root}
    taken = inspect.signature(loader).parameters
    found: datasets.Dataset = loader(split, **{key: value for key, value in offered.items() if key in taken})
    return found


def _checked(name: str, split: str, targets: tuple[str, ...]) -> DatasetCard:
    card = DATASETS.get(name)
    if split not in card.splits:
        raise UsageError(f"dataset {name!r} has no split {split!r}", f"it has {', '.join(card.splits) or 'none'}")
    lacking = [target for target in targets if target not in card.targets]
    if lacking:
        raise UnavailableError(f"dataset {name!r} has no {', '.join(lacking)}", f"it has {', '.join(card.targets)}")
    return card


def _folder(name: str, root: Path | None) -> Path | None:
    """The folder that `folder:PATH` means: PATH as it is, or below the data root; None for other names."""
    if name == FOLDER.rstrip(":"):
        raise UsageError("`folder` needs a path", "write folder:PATH")
    if not name.startswith(FOLDER):
        return None
    path = Path(name.removeprefix(FOLDER)).expanduser()
    if not path.parts:
        raise UsageError("`folder:` needs a path", "write folder:PATH")
    base = root or (Path(os.environ["VITBENCH_DATA"]) if os.environ.get("VITBENCH_DATA") else None)
    if not path.is_absolute() and not path.exists() and base is not None and (base / path).exists():
        path = base / path
    return path
