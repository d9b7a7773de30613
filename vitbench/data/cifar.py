"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), binary versions: records of label bytes and 32 x 32 pixels, plane by plane.

The binary version, because the Python one is a pickle. A sample's image is `<file>.bin#<offset>`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Bytes
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree
from vitbench.errors import DataError, UnavailableError

PIXELS = 3 * 32 * 32


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """All records. options: files (split -> names), label_bytes (1, or 2 of which the last is the fine label)."""
    rows, extra = Rows(), card.options["label_bytes"]
    for name in card.options["files"][split]:
        content = np.fromfile(tree.watch(name), np.uint8)
        if content.size % (PIXELS + extra):
            raise UnavailableError(f"{tree.root / name} is cut short", "download it again")
        labels = content.reshape(-1, PIXELS + extra)[:, extra - 1].tolist()
        for i, label in enumerate(labels):
            rows.add(f"{name.removesuffix('.bin')}/{i:05d}", f"{name}#{i * (PIXELS + extra) + extra}", label=label)
    return rows


def read_record(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    """uint8 32 32 3 at the offset that the fragment says."""
    try:
        values = np.fromfile(path, np.uint8, PIXELS, offset=int(fragment))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}", "download it again") from error
    if values.size != PIXELS:
        raise DataError(f"{path} is cut short at {fragment}", "download it again")
    return values.reshape(3, 32, 32).transpose(1, 2, 0).copy()


LAYOUT = Layout(index, image=read_record)
