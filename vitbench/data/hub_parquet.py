"""A data set as Hugging Face stores it: parquet files with encoded images in them, as `hf download` leaves them.

    <any folders>/<split>-00000-of-00010.parquet

A sample's image is `<file>#<row group>/<row>/<column>`. The row groups read last are kept, so that reading in order reads
each once. Data sets that are scripts do not load any more, here as in `datasets`.
"""

from __future__ import annotations

import io
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.release import Parquet
from vitbench.data.images import Bytes, Floats, read_image, read_values
from vitbench.data.layout import Layout, Rows
from vitbench.data.tree import Tree
from vitbench.data.voc import indices
from vitbench.errors import DataError, UnavailableError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

KEPT_GROUPS = 4


def index(tree: Tree, card: DatasetCard, split: str) -> Rows:
    """All rows of the split's files, in order; labels with the names that the files carry."""
    hub = _hub(card)
    if split not in hub.splits:
        raise UnavailableError(f"{hub.id} has no split {split!r}", card.release.remedy() if card.release else "")
    files = [f for f in tree.below("", (".parquet",)) if f.rpartition("/")[2].startswith(hub.splits[split] + "-")]
    if not files:
        raise UnavailableError(f"{tree.root} has no {hub.splits[split]}-*.parquet", "download it again")
    rows = Rows()
    for file in files:
        _add(rows, tree, file, hub)
    return rows


def _hub(card: DatasetCard) -> Parquet:
    assert card.release is not None
    assert card.release.hub is not None
    return card.release.hub


def _add(rows: Rows, tree: Tree, file: str, hub: Parquet) -> None:
    opened_file = _open(tree.watch(file))
    rows.label_classes = rows.label_classes or _names(opened_file, hub.columns.get("label", ""))
    stem = file.rpartition("/")[2].removesuffix(".parquet")
    number = 0
    for group in range(opened_file.num_row_groups):
        count = opened_file.metadata.row_group(group).num_rows
        labels = (
            opened_file.read_row_group(group, [hub.columns["label"]]).column(0).to_pylist()
            if "label" in hub.columns
            else [None] * count
        )
        for row, label in enumerate(labels):
            values = {t: f"{file}#{group}/{row}/{c}" for t, c in hub.columns.items() if t not in ("image", "label")}
            if label is not None:
                values["label"] = label
            rows.add(f"{stem}/{number:07d}", f"{file}#{group}/{row}/{hub.columns['image']}", **values)
            number += 1


def _names(file: pq.ParquetFile, column: str) -> tuple[str, ...]:
    try:
        features = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]
        return tuple(features[column]["names"])
    except (KeyError, TypeError, ValueError):
        return ()  # written by something else: labels stay numbers


def _open(path: Path) -> pq.ParquetFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UnavailableError(f"{path} is not a whole parquet file: {error}", "download it again") from error


@lru_cache(maxsize=KEPT_GROUPS)
def _group(path: Path, stamp: int, group: int, column: str) -> list[dict[str, Any]]:
    del stamp  # part of the key only
    found: list[dict[str, Any]] = _open(path).read_row_group(group, [column]).column(0).to_pylist()
    return found


def _content(path: Path, fragment: str) -> io.BytesIO:
    group, row, column = fragment.split("/", 2)
    try:
        cell = _group(path, path.stat().st_mtime_ns, int(group), column)[int(row)]
        return io.BytesIO(cell["bytes"])
    except (OSError, KeyError, IndexError, TypeError, UnavailableError) as error:
        raise DataError(f"cannot read row {row} of group {group} of {path}: {error}", "download it again") from error


def read_encoded(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    """uint8 h w 3 of an encoded image, as stored."""
    return read_image(Path(f"{path}#{fragment}"), upright=False, content=_content(path, fragment))


def read_encoded_mask(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    """uint8 h w of an encoded mask: indices, or VOC's colours mapped back to them."""
    return indices(Path(f"{path}#{fragment}"), _content(path, fragment))


def read_encoded_depth(path: Path, fragment: str, card: DatasetCard) -> Floats:
    """float32 h w, metres, of an encoded 16-bit image; 0 where there is no measurement."""
    values = read_values(Path(f"{path}#{fragment}"), _content(path, fragment))
    return np.asarray(values / np.float32(card.options["per_metre"]), np.float32)


LAYOUT = Layout(index, {"segmentation": read_encoded_mask, "depth": read_encoded_depth}, image=read_encoded)
