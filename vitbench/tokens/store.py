"""The token store: sharded safetensors on disk, memory-mapped on read, complete only once its manifest is there.

One folder per (backbone, edit, split, view, dtype); in it one part per pass, so that a field asked for later is added without
writing the others again. A part is shards of chunks (the batches as they were computed) and a manifest with a checksum each.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vitbench.catalogue.fields import stored_dtype
from vitbench.errors import StorageError
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.manifest import MANIFEST, complete_parts, file_digest, part_folder
from vitbench.tokens.types import Tokens

SHARD_BYTES = 1 << 30


class Sink(Protocol):
    """Where a pass sends its tokens: a shard writer, or a reducer that keeps only what a task needs."""

    def write(self, tokens: Tokens) -> None: ...
    def commit(self, cost: dict[str, float]) -> None: ...
    def abort(self) -> None: ...


@dataclass(frozen=True)
class _Chunk:
    shard: int
    keys: tuple[str, ...]
    geometry: Geometry


class ShardWriter:
    """Writes one part: chunks gathered into shards of about `shard_bytes`, each fsynced and renamed, the manifest last."""

    def __init__(self, root: Path, store: str, fields: tuple[str, ...], shard_bytes: int = SHARD_BYTES) -> None:
        self._final = part_folder(root, store, fields)
        self._folder = self._final.with_name(self._final.name + f".writing-{os.getpid()}")
        self._fields, self._limit = fields, shard_bytes
        self._pending: dict[str, torch.Tensor] = {}
        self._pending_bytes = 0
        self._storages: set[int] = set()
        self._chunks: list[_Chunk] = []
        self._shards: list[dict[str, Any]] = []
        with _disk_errors(self._final):
            # The caller holds the store's lock, so any other unfinished folder of this part was left by a killed process.
            for stale in self._final.parent.glob(f"{self._final.name}.writing-*"):
                shutil.rmtree(stale, ignore_errors=True)
            self._folder.mkdir(parents=True)

    def write(self, tokens: Tokens) -> None:
        """Keep a chunk; float fields are stored as `stored_dtype` says."""
        name = f"{len(self._chunks):06d}"
        for field in self._fields:
            given = tokens[field].detach()
            value = given.to("cpu", getattr(torch, stored_dtype(field))).contiguous()
            # Backbones give finite tokens; only a narrower type can lose that.
            narrowed = value.dtype == torch.float16 != given.dtype
            if narrowed and not bool(torch.isfinite(value).all()):
                raise StorageError(
                    f"field {field!r} does not fit in {stored_dtype(field)}", "its values are too large to store"
                )
            # A control gives one tensor for several fields, and safetensors refuses to write memory twice.
            shared = value.untyped_storage().data_ptr() in self._storages
            value = value.clone() if shared else value
            self._storages.add(value.untyped_storage().data_ptr())
            self._pending[f"{name}/{field}"] = value
            self._pending_bytes += value.nbytes
        self._chunks.append(_Chunk(len(self._shards), tokens.keys, tokens.geometry))
        if self._pending_bytes >= self._limit:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        path = self._folder / f"shard-{len(self._shards):05d}.safetensors"
        with _disk_errors(self._final):
            save_file(self._pending, path)
            _fsync(path)
        self._shards.append({"file": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)})
        self._pending, self._pending_bytes, self._storages = {}, 0, set()

    def commit(self, cost: dict[str, float]) -> None:
        """Write what is pending and the manifest, and put the part in its place."""
        self._flush()
        manifest = {
            "fields": list(self._fields),
            "shards": self._shards,
            "chunks": [{"shard": c.shard, "keys": c.keys, "geometry": asdict(c.geometry)} for c in self._chunks],
            "cost": cost,
            "utc": time.time(),
        }
        with _disk_errors(self._final):
            path = self._folder / MANIFEST
            path.write_text(json.dumps(manifest))
            _fsync(path)
            shutil.rmtree(self._final, ignore_errors=True)
            self._folder.rename(self._final)

    def abort(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._folder, ignore_errors=True)


class StoredTokens:
    """A store read back: iterates over chunks of the asked fields, memory-mapped, in the order of the dataset."""

    def __init__(self, root: Path, store: str, fields: Iterable[str]) -> None:
        self.fields = tuple(fields)
        self._parts: dict[str, Path] = {}
        self._manifests: dict[Path, dict[str, Any]] = {}
        for folder, manifest in complete_parts(root / store):
            self._manifests[folder] = manifest
            for name in manifest["fields"]:
                self._parts.setdefault(name, folder)
        missing = [f for f in self.fields if f not in self._parts]
        if missing:
            raise StorageError(
                f"token store {store} has no {', '.join(missing)}", "run again; `vitbench cache verify` checks it"
            )
        first = self._manifests[self._parts[self.fields[0]]]
        self._chunks = [_Chunk(c["shard"], tuple(c["keys"]), _geometry(c["geometry"])) for c in first["chunks"]]
        for manifest in (self._manifests[self._parts[f]] for f in self.fields):
            # Parts written on devices with other batch sizes hold the same images in other chunks.
            if manifest is not first and [c["keys"] for c in manifest["chunks"]] != [
                c["keys"] for c in first["chunks"]
            ]:
                raise StorageError(
                    f"parts of token store {store} are chunked differently", "`vitbench cache gc --all`, run again"
                )
        for folder in {self._parts[f] for f in self.fields}:
            os.utime(folder / MANIFEST)  # last use, for eviction

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(k for c in self._chunks for k in c.keys)

    @property
    def cost(self) -> dict[str, float]:
        """Seconds and forwards summed over the parts the fields come from."""
        total: dict[str, float] = {}
        for folder in {self._parts[f] for f in self.fields}:
            for name, value in self._manifests[folder]["cost"].items():
                total[name] = total.get(name, 0.0) + value
        return total

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Tokens]:
        opened: dict[Path, Any] = {}
        for i, chunk in enumerate(self._chunks):
            values = {}
            for name in self.fields:
                folder = self._parts[name]
                manifest = self._manifests[folder]
                path = folder / manifest["shards"][manifest["chunks"][i]["shard"]]["file"]
                if path not in opened:
                    opened[path] = safe_open(path, framework="pt")
                values[name] = opened[path].get_tensor(f"{i:06d}/{name}")
            yield Tokens(values, chunk.geometry, chunk.keys)


def _geometry(data: dict[str, Any]) -> Geometry:
    def pair(p: dict[str, Any], name: str) -> Any:
        return tuple(p[name])

    placements = tuple(
        Placement(
            pair(p, "source_hw"),
            pair(p, "view_hw"),
            pair(p, "content_hw"),
            pair(p, "scale"),
            pair(p, "offset"),
            p["flipped"],
            tuple(p.get("content_at", (0, 0))),
        )
        for p in data["placements"]
    )
    return Geometry(data["patch_px"], (data["grid_hw"][0], data["grid_hw"][1]), placements)


def _fsync(path: Path) -> None:
    with path.open("rb") as f:
        os.fsync(f.fileno())


class _disk_errors:
    """Turns disk errors into one line that names the folder and the remedy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) or (error is not None and "No space left" in str(error)):
            full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error)
            remedy = "free space or use --cache-budget" if full else "check the folder's permissions or use --cache"
            raise StorageError(f"cannot write {self.path}: {'the disk is full' if full else error}", remedy) from error
