"""A data set in its released layout, as a `datasets.Dataset`: indexed once, remembered on disk, decoded on access.

A layout is two things: `index`, which lists what a split holds without opening an image, and `readers`, which decode files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitbench.catalogue.cards import DatasetCard
from vitbench.data.images import Bytes, read_image, require_same_shape
from vitbench.data.subset import Described, Limit, chosen, whole_videos
from vitbench.data.tree import ARCHIVES, LOST, NO_DATA, PERMISSIONS, Tree, fresh
from vitbench.errors import UnavailableError, UsageError
from vitbench.identity import digest
from vitbench.paths import cache_dir
from vitbench.registry import resolve

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

INDEX_VERSION = 1
ELSEWHERE = "the archive is half unpacked, or its folders lie elsewhere: `data status` says where they belong"
MAPS = ("segmentation", "depth")  # targets with the pixels of their image


Reader = Callable[[Path, str, DatasetCard], Any]


class Rows:
    """Samples as they are listed: a key, an image, targets; files by path below the data set's folder."""

    def __init__(self, label_classes: tuple[str, ...] = ()) -> None:
        self.columns: dict[str, list[Any]] = {"key": [], "image": []}
        self.label_classes = label_classes

    def add(self, key: str, image: str, **values: Any) -> None:
        """One sample; what it has no value for is None."""
        for name in values.keys() - self.columns.keys():
            self.columns[name] = [None] * len(self)
        self.columns["key"].append(key)
        self.columns["image"].append(image)
        for name in self.columns.keys() - {"key", "image"}:
            self.columns[name].append(values.get(name))

    def __len__(self) -> int:
        return len(self.columns["key"])


def as_stored(path: Path, fragment: str, card: DatasetCard) -> Bytes:
    """uint8 h w 3, without EXIF rotation."""
    return read_image(path, upright=False)


@dataclass(frozen=True)
class Layout:
    """How a family of data sets lies on disk.

    index(tree, card, split) lists a split. readers: target -> how its file becomes an array (h w). image: how the image
    is read; default: as stored, without EXIF rotation, since released targets fit stored pixels. A reader is given the
    path, what the index wrote after a `#` (which part of the file, or what its values mean), and the card.
    finish(sample, card): last change of a decoded sample, such as a crop of image and depth alike.
    """

    index: Callable[[Tree, DatasetCard, str], Rows]
    readers: Mapping[str, Reader] = field(default_factory=dict)
    image: Reader = as_stored
    finish: Callable[[dict[str, Any], DatasetCard], dict[str, Any]] | None = None


def place_of(card: DatasetCard, root: Path | None) -> tuple[Path, str]:
    """The folder of a data set, and the entry of the layout where it is not the card's own (parquet of the hub).

    Raises UnavailableError with the instruction where there is none, or more than one.
    """
    with _readable(card):
        return _place_of(card, root)


def _place_of(card: DatasetCard, root: Path | None) -> tuple[Path, str]:
    release = card.release
    assert release is not None
    base = root or (Path(os.environ["VITBENCH_DATA"]).expanduser() if os.environ.get("VITBENCH_DATA") else None)
    if base is None:
        raise UnavailableError(f"{card.name}: no data root is given", release.remedy())
    found = {path.resolve(): path for name in (release.folder, *release.also) if (path := base / name).is_dir()}
    if not found and release.hub is not None and (parquet := base / release.hub.folder).is_dir():
        return parquet, "vitbench.data.hub_parquet:LAYOUT"
    if not found:
        raise UnavailableError(f"{card.name}: {_absent(base / release.folder)}", release.remedy())
    if len(found) > 1:
        raise UnavailableError(
            f"{card.name} lies in two folders: {' and '.join(map(str, found.values()))}",
            "keep one, or link the other to it",
        )
    return _entered(next(iter(found.values()))), ""


@contextmanager
def _readable(card: DatasetCard) -> Iterator[None]:
    """What the system refuses is said in one line."""
    try:
        yield
    except OSError as error:
        what = error.filename or "its files"
        raise UnavailableError(f"{card.name}: cannot read {what}: {error.strerror or error}", PERMISSIONS) from error


def _absent(place: Path) -> str:
    """Why there is no folder."""
    if place.is_file():
        return f"{place} is a file, not a folder"
    return f"{place} is a link that leads nowhere" if place.is_symlink() else f"there is no {place}"


def _entered(place: Path) -> Path:
    """The folder of the same name in a folder that holds nothing else but archives, as unpacking often leaves it."""
    inner = place / place.name
    if not inner.is_dir():
        return place
    others = (p for p in place.iterdir() if p != inner and not p.name.startswith((".", NO_DATA)))
    return inner if all(p.is_file() and p.name.endswith(ARCHIVES) for p in others) else place


@dataclass(frozen=True)
class Index:
    """The index of a split: its table, the layout and folder it is of, and where it is kept."""

    table: pa.Table
    layout: Layout
    place: Path
    kept: Path


def index_of(layout: Layout, card: DatasetCard, split: str, root: Path | None, again: bool = False) -> Index:
    """The index of a split. Raises UnavailableError for what is not complete.

    again: made anew, since a remembered one does not know of files that were written over where they lie.
    """
    import pyarrow as pa

    place, entry = place_of(card, root)
    if entry:
        layout = resolve(entry)
    kept = cache_dir() / "indexes" / f"{card.name}-{split}-{_index_key(card, split, place)}.arrow"
    if not again and (table := _read(kept, place)) is not None:
        return Index(table, layout, place, kept)
    tree = Tree(place)
    with _readable(card):
        rows = _listed(tree, layout, card, split)
    expected = card.splits.get(split, 0)
    if expected and len(rows) != expected:
        found = f"{card.name}: {place} holds {len(rows):,} of {expected:,} images of split {split!r}"
        raise _explained(tree, UnavailableError(found, "the archive is half unpacked, or another one"))
    meta = {b"watched": json.dumps(tree.watched).encode(), b"label_classes": json.dumps(rows.label_classes).encode()}
    table = pa.table(rows.columns).replace_schema_metadata(meta)
    _write(table, kept)
    return Index(table, layout, place, kept)


def _listed(tree: Tree, layout: Layout, card: DatasetCard, split: str) -> Rows:
    """What a split holds, with the sizes of its files."""
    try:
        rows = layout.index(tree, card, split)
    except UnavailableError as error:
        raise _explained(tree, error) from error
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise UnavailableError(
            f"{card.name}: the annotations in {tree.root} are not as released ({type(error).__name__}: {error})",
            "unpack them again",
        ) from error
    _add_sizes(rows, layout, tree, card)
    return rows


def _explained(tree: Tree, error: UnavailableError) -> UnavailableError:
    """The error, or that links lead nowhere where some do: then nothing needs to be unpacked."""
    if not tree.lost or "leads nowhere" in error.message:
        return error
    links = f"{len(tree.lost):,} links lead nowhere, first {tree.root / tree.lost[0]}"
    return UnavailableError(f"{error.message}; {links}", LOST)


def _index_key(card: DatasetCard, split: str, place: Path) -> str:
    return digest([INDEX_VERSION, card.name, card.version, *filter(None, [card.code]), split, str(place.resolve()),
                   card.splits.get(split, 0),
                   {k: str(v) for k, v in card.options.items()}])  # fmt: skip


def _add_sizes(rows: Rows, layout: Layout, tree: Tree, card: DatasetCard) -> None:
    """Bytes of every file listed, which identify it. Raises UnavailableError naming the first of those that are missing."""
    for name in ("image", *layout.readers):
        if name not in rows.columns:
            continue
        sizes = [None if path is None else tree.size(path.partition("#")[0]) for path in rows.columns[name]]
        missing = [p for p, size in zip(rows.columns[name], sizes, strict=True) if p is not None and size is None]
        if missing:
            near, folder = tree.near(missing[0]), (tree.root / missing[0].partition("#")[0]).parent
            found = f"{card.name}: {len(missing):,} of {len(rows):,} {name} files are missing, first {tree.root / missing[0]}"
            found += f" (there is {near!r})" if near else "" if folder.is_dir() else f" (there is no {folder})"
            remedy = (
                "rename it: names are used as released" if near else "the archive is half unpacked: unpack it again"
            )
            raise _explained(tree, UnavailableError(found, remedy if folder.is_dir() else ELSEWHERE))
        rows.columns[f"{name}_bytes"] = sizes


def _read(kept: Path, place: Path) -> pa.Table | None:
    """The remembered index, if nothing it was made from has changed."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(kept)) as source:
            table = pa.ipc.open_stream(source).read_all()
        watched = json.loads(table.schema.metadata[b"watched"])
    except (OSError, pa.ArrowInvalid, ValueError, KeyError, TypeError):
        return None  # not there, or not readable: it is made again
    return table if fresh(place, watched) else None


def _write(table: pa.Table, kept: Path) -> None:
    import contextlib

    import pyarrow as pa

    # A cache that cannot be written only costs time: the folder is listed again next time.
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial_file = kept.with_suffix(f".{os.getpid()}")
        with pa.OSFile(str(partial_file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        partial_file.replace(kept)


# -- what load.py asks -------------------------------------------------------------------------------------------------


def describe_split(
    layout: Layout, card: DatasetCard, split: str, targets: tuple[str, ...], limit: Limit, seed: int, root: Path | None
) -> Described:
    """How many samples `open_split` gives, and digests of which: names, bytes of files, annotations."""
    index = index_of(layout, card, split, root)
    table, kept = index.table, index.kept
    known = kept.with_name(f"{kept.stem}-{digest([targets, limit, seed, _stamp(kept)])}.json")
    try:
        count, found, pictures = json.loads(known.read_text())
        return Described(int(count), str(found), str(pictures))
    except (OSError, ValueError, TypeError):
        pass
    rows = _selected(table, card, split, targets, limit, seed)
    names = [n for t in ("image", *targets) for n in (f"{t}_bytes", t) if n in table.column_names]
    # A file counts by its size, not by where it lies.
    names = ["key", *(n for n in names if f"{n}_bytes" not in table.column_names)]
    columns = {name: _values(table, name, rows) for name in names}
    result = Described(len(rows), digest([card.name, card.version, columns]), _pictures(index, card, rows))
    if kept.is_file():
        known.write_text(json.dumps(result))
    return result


def _pictures(index: Index, card: DatasetCard, rows: list[int]) -> str:
    """Digest of the images alone: data sets that are read from the same files in the same way share it."""
    assert card.release is not None
    name = getattr(index.layout.image, "__qualname__", "")
    if index.layout.finish is not None or not name:
        return ""  # the last change may cut an image to its targets
    images = _values(index.table, "image", rows)
    columns = [_values(index.table, name, rows) for name in ("key", "image_bytes")]
    parts = [path.partition("#")[2] for path in images]
    how = [card.version, *filter(None, [card.code]), card.release.folder, index.layout.image.__module__, name]
    return digest([*how, *columns, parts if any(parts) else []])


def _stamp(kept: Path) -> list[int]:
    # The inode too: an index is replaced by another file, and the clock of the file system need not have ticked since.
    return [(status := kept.stat()).st_mtime_ns, status.st_ino] if kept.is_file() else []


def open_split(
    layout: Layout, card: DatasetCard, split: str, targets: tuple[str, ...], limit: Limit, seed: int, root: Path | None,
    least_px: int = 0,
) -> datasets.Dataset:  # fmt: skip
    """The samples of a split that have all targets, decoded on access; the index stays on disk.

    least_px: JPEGs may come at a fraction of their size, see `read_image`.
    """
    import datasets

    index = index_of(layout, card, split, root)
    table, kept = index.table, index.kept
    rows = _selected(table, card, split, targets, limit, seed)
    whole = datasets.Dataset.from_file(str(kept)) if kept.is_file() else datasets.Dataset(table)
    extra = [n for n in whole.column_names if n.rpartition("_")[0] in targets and not n.endswith("_bytes")]
    kept_columns = list(dict.fromkeys(["key", "image", *targets, *extra]))
    part = whole.select_columns(kept_columns)
    if len(rows) < len(whole):
        part = part.select(rows)
    return part.with_transform(partial(decode, layout=index.layout, card=card, place=index.place, least_px=least_px))


def label_classes(layout: Layout, card: DatasetCard, split: str, root: Path | None) -> tuple[str, ...]:
    """Names of the classes as the data themselves have them, by label."""
    metadata = index_of(layout, card, split, root).table.schema.metadata
    return tuple(json.loads(metadata[b"label_classes"]))


def _selected(
    table: pa.Table, card: DatasetCard, split: str, targets: tuple[str, ...], limit: Limit, seed: int
) -> list[int]:
    lacking = [t for t in targets if t not in table.column_names]
    if lacking:
        raise UnavailableError(f"{card.name}: split {split!r} has no {', '.join(lacking)}", "choose another split")
    rows = list(range(len(table)))
    for target in targets:
        if table[target].null_count:
            there = table[target].is_valid().to_pylist()
            rows = [row for row in rows if there[row]]
    if not rows:
        raise UnavailableError(
            f"{card.name}: no image of split {split!r} has {' and '.join(targets)}", "see `data verify`"
        )
    if limit is None:
        return rows
    if "frames" in targets:  # a video with holes in it is no video
        videos = [frame["video"] for frame in _values(table, "frames", rows)]
        return [rows[i] for i in whole_videos(videos, limit, seed)]
    keys = _values(table, "key", rows)
    groups = _values(table, "label", rows) if "label" in table.column_names else None
    return [rows[i] for i in chosen(keys, groups, limit, seed)]


def _values(table: pa.Table, name: str, rows: list[int]) -> list[Any]:
    # In Python: pyarrow's own `take` would import pandas to look at the rows, and planning stays light.
    values = table[name].to_pylist()
    return values if len(rows) == len(values) else [values[row] for row in rows]


def decode(
    batch: dict[str, list[Any]], layout: Layout, card: DatasetCard, place: Path, least_px: int = 0
) -> dict[str, list[Any]]:
    """Paths and lists of a batch -> arrays, for the columns that are there."""
    out: dict[str, list[Any]] = dict(batch)
    if "image" in batch and least_px and layout.image is as_stored:
        out["image"] = [read_image(place / p.partition("#")[0], False, least_px) for p in batch["image"]]
    elif "image" in batch:
        out["image"] = [_decoded(layout.image, place, p, card) for p in batch["image"]]
    for name, read in layout.readers.items():
        if name in batch:
            out[name] = [_decoded(read, place, p, card) for p in batch[name]]
    for name in MAPS:
        if name in batch and "image" in batch and name in layout.readers:
            for image, values, path in zip(out["image"], out[name], batch[name], strict=True):
                require_same_shape(image, values, str(place / path.partition("#")[0]))
    if "boxes" in batch:
        out["boxes"] = [np.asarray(b, np.float32).reshape(-1, 4) for b in batch["boxes"]]
    if layout.finish is None or "image" not in batch:
        return out
    samples = [layout.finish(dict(zip(out, values, strict=True)), card) for values in zip(*out.values(), strict=True)]
    return {name: [sample[name] for sample in samples] for name in out}


def _decoded(read: Reader, place: Path, file: str | None, card: DatasetCard) -> Any:
    if file is None:
        return None
    path, _, fragment = file.partition("#")
    return read(place / path, fragment, card)


def require_split(card: DatasetCard, split: str, targets: tuple[str, ...]) -> str:
    """The split of the release that `split` means. Raises UnavailableError where a task's is not there, else UsageError."""
    for role in (*(f"{split}:{t}" for t in targets), split):
        if role in card.roles:
            return card.roles[role]
    if split in card.splits:
        return split
    message, remedy = f"dataset {card.name!r} has no split {split!r}", f"it has {', '.join(card.splits) or 'none'}"
    if split in ("train", "val"):  # asked for by a task, not by a person: other tasks of a selection can do without
        raise UnavailableError(message, remedy)
    raise UsageError(message, remedy)
