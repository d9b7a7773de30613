"""A data set's folder while it is indexed: every folder is listed once, and all that was read is remembered, so that an
index can later be told to be still true without listing anything again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from vitbench.errors import UnavailableError

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
HALF_UNPACKED = "the archive is not there or only half unpacked"
LOST = "fetch what it leads to, or mount it"
PERMISSIONS = "check its permissions"
NO_DATA = "__MACOSX"  # what a Mac's archives hold of attributes, under the names of the files


class Tree:
    """Folders and files below `root`, by relative POSIX paths. What is missing is an UnavailableError with what was found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.watched: dict[str, int] = {}  # relative path -> modification time in ns
        self.lost: list[str] = []  # links that lead nowhere
        self._files: dict[str, dict[str, None]] = {}
        self._sizes: dict[str, int] = {}
        self._folders: dict[str, list[str]] = {}

    def files(self, folder: str, suffixes: tuple[str, ...] = ()) -> Collection[str]:
        """Names of the files in a folder, sorted; hidden ones are left out."""
        self._list(folder)
        found = self._files[folder]
        lower = tuple(s.lower() for s in suffixes)
        return [n for n in found if n.lower().endswith(lower)] if suffixes else found.keys()

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
        if path in self._sizes:
            return self._sizes[path]
        folder, _, name = path.rpartition("/")
        try:
            if name not in self.files(folder):  # also where a file system takes another case of it
                return None
            self._sizes[path] = os.stat(f"{self.root}/{path}").st_size  # noqa: PTH116 - a Path for each of many takes longer
        except (UnavailableError, FileNotFoundError):
            return None
        return self._sizes[path]

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
            files, folders = [], []
            with os.scandir(path) as entries:
                for entry in entries:  # names alone are kept: there may be a million of others' files
                    if entry.name.startswith((".", NO_DATA)):
                        continue
                    if entry.is_file():
                        files.append(entry.name)
                    elif entry.is_dir():
                        folders.append(entry.name)
                    elif entry.is_symlink():
                        self.lost.append(joined(folder, entry.name))
            self._files[folder], self._folders[folder] = dict.fromkeys(sorted(files)), sorted(folders)
        except (FileNotFoundError, NotADirectoryError):
            raise UnavailableError(*self._missing(folder)) from None
        except OSError as error:
            raise UnavailableError(f"cannot list {path}: {error.strerror}", PERMISSIONS) from error
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
