"""A data set's folder while it is indexed: every folder is listed once, and all that was read is remembered, so that an
index can later be told to be still true without listing anything again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitbench.errors import UnavailableError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
HALF_UNPACKED = "the archive is not there or only half unpacked"
LOST = "fetch what it leads to, or mount it"
NO_DATA = "__MACOSX"  # what a Mac's archives hold of attributes, under the names of the files


class Tree:
    """Folders and files below `root`, by relative POSIX paths. What is missing is an UnavailableError with what was found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.watched: dict[str, int] = {}  # relative path -> modification time in ns
        self.lost: list[str] = []  # links that lead nowhere
        self._files: dict[str, dict[str, int]] = {}
        self._folders: dict[str, list[str]] = {}

    def files(self, folder: str, suffixes: tuple[str, ...] = ()) -> dict[str, int]:
        """Names of the files in a folder, sorted, with their sizes in bytes; hidden ones are left out."""
        self._list(folder)
        found = self._files[folder]
        lower = tuple(s.lower() for s in suffixes)
        return {n: size for n, size in found.items() if n.lower().endswith(lower)} if suffixes else found

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, sorted."""
        self._list(folder)
        return self._folders[folder]

    def below(self, folder: str, suffixes: tuple[str, ...] = IMAGES) -> Iterator[str]:
        """Files at any depth below a folder, relative to it, in order."""
        yield from self.files(folder, suffixes)
        for name in self.folders(folder):
            yield from (f"{name}/{file}" for file in self.below(joined(folder, name), suffixes))

    def size(self, path: str) -> int | None:
        """Bytes of a file; None where it is not there."""
        folder, _, name = path.rpartition("/")
        try:
            return self.files(folder).get(name)
        except UnavailableError:
            return None

    def near(self, path: str) -> str:
        """A file beside `path` whose name differs in case only; "" where there is none."""
        folder, _, name = path.partition("#")[0].rpartition("/")
        try:
            return next((n for n in self.files(folder) if n.lower() == name.lower() and n != name), "")
        except UnavailableError:
            return ""

    def has(self, path: str) -> bool:
        """Whether there is a file or folder of exactly this name."""
        return (self.root / path).exists() and (self.size(path) is not None or (self.root / path).is_dir())

    def first(self, *paths: str) -> str:
        """The first of several places that is there. Raises UnavailableError naming all."""
        for path in paths:
            if self.has(path):
                return path
        raise UnavailableError(*self._missing(paths[0], paths[1:]))

    def text(self, path: str) -> str:
        """A text file. Raises UnavailableError where it is missing, DataError-like text where it cannot be read."""
        file = self.root / path
        try:
            content = file.read_text(encoding="utf-8-sig")
            self.watched[path] = file.stat().st_mtime_ns
        except FileNotFoundError:
            raise UnavailableError(*self._missing(path)) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UnavailableError(
                f"cannot read {file}: {error}", "unpack it again, or check its permissions"
            ) from error
        return content

    def lines(self, path: str) -> list[str]:
        """Lines of a text file that are not empty, stripped."""
        return [line.strip() for line in self.text(path).splitlines() if line.strip()]

    def json(self, path: str) -> Any:
        """A JSON file. Raises UnavailableError where it is missing or not JSON."""
        try:
            return json.loads(self.text(path))
        except ValueError as error:
            raise UnavailableError(f"{self.root / path} is not JSON: {error}", "unpack it again") from error

    def watch(self, path: str) -> Path:
        """A file that a reader of its own opens. Raises UnavailableError where it is missing."""
        file = self.root / path
        if not file.is_file():
            raise UnavailableError(*self._missing(path))
        self.watched[path] = file.stat().st_mtime_ns
        return file

    def _list(self, folder: str) -> None:
        if folder in self._files:
            return
        path = self.root / folder
        try:
            stamp = path.stat().st_mtime_ns
            with os.scandir(path) as entries:
                shown = sorted((e for e in entries if not e.name.startswith((".", NO_DATA))), key=lambda e: e.name)
            self._files[folder] = {e.name: e.stat().st_size for e in shown if e.is_file()}
            self._folders[folder] = [e.name for e in shown if e.is_dir()]
            self.lost += [joined(folder, e.name) for e in shown if e.is_symlink() and not (e.is_file() or e.is_dir())]
        except (FileNotFoundError, NotADirectoryError):
            raise UnavailableError(*self._missing(folder)) from None
        except OSError as error:
            raise UnavailableError(f"cannot list {path}: {error.strerror}", "check its permissions") from error
        self.watched[folder] = stamp

    def _missing(self, path: str, others: tuple[str, ...] = ()) -> tuple[str, str]:
        """Message and remedy for a path that is not there: how far it exists, what is there instead."""
        parent, missing = self.root, path
        for part in path.split("/"):
            if (parent / part).is_symlink() and not (parent / part).exists():
                return f"{parent / part} is a link that leads nowhere", LOST
            if not (parent / part).exists():
                missing = part
                break
            parent = parent / part
        if parent.is_file():
            return (
                f"{parent} is a file where a folder is expected",
                "the archive is not unpacked, or under another name",
            )
        with contextlib.suppress(OSError):
            near = [p.name for p in parent.iterdir() if p.name.lower() == missing.lower()]
            if near and near != [missing]:
                return f"{parent} has {near[0]!r}, not {missing!r}", "rename it: names are used as released"
        deeper = self.root / self.root.name
        also = f" (nor {', '.join(others)})" if others else ""
        return f"{self.root} has no {path}{also}", (
            f"move what is in {deeper} one folder up" if deeper.is_dir() else HALF_UNPACKED
        )


def joined(*parts: str) -> str:
    """Relative POSIX path of its parts; empty ones are dropped."""
    return "/".join(part for part in parts if part)


def fresh(root: Path, watched: dict[str, int]) -> bool:
    """Whether all that was read is as it was."""
    try:
        return all((root / path).stat().st_mtime_ns == stamp for path, stamp in watched.items())
    except OSError:
        return False
