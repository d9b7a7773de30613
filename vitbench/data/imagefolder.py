"""Classification sets that are folders of classes: ImageNet and others as torchvision's ImageFolder, EuroSAT, RESISC45.

    <split>/<class>/*  or, where the release has no split, <folder>/<class>/* dealt by name

A label is the place of its class in the sorted names of folders that hold images.
"""

from __future__ import annotations

import hashlib

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import IMAGES, Tree, joined
from vitbench.errors import UnavailableError


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """Every image of the split by class. options: folders (split -> folder), without (folders that are no class).

    Where no split was released, options name `train_share` or `train_per_class`: every class is dealt in the order of
    hashes of its file names, so that everybody's split is the same.
    """
    folder = card.options.get("folders", {}).get(split, split)
    listed = {n: list(tree.below(joined(folder, n))) for n in tree.folders(folder)}
    classes = {n: files for n, files in listed.items() if files and n not in card.options.get("without", ())}
    if not classes:
        loose = len(tree.files(folder, IMAGES))
        raise UnavailableError(
            f"{tree.root / folder} has {f'{loose:,} images but ' if loose else ''}no folders of classes",
            "move every image into the folder of its class" if loose else "unpack the archive again",
        )
    rows = Rows(tuple(classes))
    dealt = "train_share" in card.options or "train_per_class" in card.options
    for label, (name, files) in enumerate(classes.items()):
        for file in _dealt(files, card, split) if dealt else files:
            rows.add(f"{name}/{file.rpartition('.')[0]}", joined(folder, name, file), label=label)
    return rows


def _dealt(files: list[str], card: DatasetCard, split: str) -> list[str]:
    order = sorted(files, key=lambda f: hashlib.sha256(f.encode()).digest())
    count = card.options.get("train_per_class") or round(card.options["train_share"] * len(files))
    return sorted(order[:count] if split == "train" else order[count:])


LAYOUT = Layout(index)
