"""Which parts of the token store are there, complete and undamaged; what may be dropped. No torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def part_folder(root: Path, store: str, fields: Iterable[str]) -> Path:
    """Where a part of a store lives; its name is a digest of the fields."""
    name = hashlib.sha256(",".join(sorted(fields)).encode()).hexdigest()[:12]
    return root / store / name


def complete_parts(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Parts of a store whose manifest and shards are all there."""
    if not folder.is_dir():
        return
    for part in sorted(folder.iterdir()):
        if ".writing-" in part.name or not (part / MANIFEST).is_file():
            continue
        manifest = json.loads((part / MANIFEST).read_text())
        sizes = [(part / s["file"], s["bytes"]) for s in manifest["shards"]]
        if all(path.is_file() and path.stat().st_size == size for path, size in sizes):
            yield part, manifest


def stored_fields(root: Path, store: str) -> frozenset[str]:
    """Fields that are completely there."""
    return frozenset(name for _, manifest in complete_parts(root / store) for name in manifest["fields"])


def verify(root: Path) -> list[str]:
    """Check every shard's checksum; returns the damaged or incomplete parts, one line each."""
    problems = []
    for store in sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []:
        good = {folder for folder, _ in complete_parts(store)}
        for part in sorted(p for p in store.iterdir() if p.is_dir()):
            if part not in good:
                problems.append(f"{store.name}/{part.name}: incomplete")
                continue
            for shard in json.loads((part / MANIFEST).read_text())["shards"]:
                if file_digest(part / shard["file"]) != shard["sha256"]:
                    problems.append(f"{store.name}/{part.name}/{shard['file']}: checksum differs")
    return problems


def file_digest(path: Path) -> str:
    """sha256 of a file, hex."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@dataclass(frozen=True)
class Part:
    """A part on disk, complete or not, as `cache ls` shows it."""

    store: str
    path: Path
    fields: tuple[str, ...]
    images: int
    bytes: int
    last_used: float
    complete: bool


def parts(root: Path) -> list[Part]:
    """All parts, least recently used first."""
    found = []
    for folder in root.glob("*/*") if root.is_dir() else []:
        if not folder.is_dir():
            continue
        manifest_path = folder / MANIFEST
        complete = any(folder == good for good, _ in complete_parts(folder.parent))
        manifest = json.loads(manifest_path.read_text()) if complete else {"fields": [], "chunks": []}
        size = sum(f.stat().st_size for f in folder.iterdir())
        used = manifest_path.stat().st_mtime if complete else folder.stat().st_mtime
        images = sum(len(c["keys"]) for c in manifest["chunks"])
        found.append(Part(folder.parent.name, folder, tuple(manifest["fields"]), images, size, used, complete))
    return sorted(found, key=lambda part: part.last_used)


def evict(root: Path, keep: frozenset[str], budget_bytes: int) -> int:
    """Drop least recently used parts of stores outside `keep` until the rest fits; returns the bytes freed."""
    all_parts = parts(root)
    total, freed = sum(p.bytes for p in all_parts), 0
    for part in all_parts:
        if total - freed <= budget_bytes:
            break
        if part.store not in keep and ".writing-" not in part.path.name:
            shutil.rmtree(part.path, ignore_errors=True)
            freed += part.bytes
    return freed
