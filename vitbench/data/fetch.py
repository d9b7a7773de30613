"""Downloading a release: resumed where it broke off, checked by its md5, unpacked without leaving its folder.

Archives are kept in DATA_ROOT/downloads; a file that is there and whole is not fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from vitbench.catalogue.release import Download
from vitbench.data.tree import ARCHIVES
from vitbench.errors import DataError, StorageError, UnavailableError

CHUNK = 1 << 20
TIMEOUT_S = 60

Report = Callable[[int, int], None]
"""Hears of bytes done and bytes in all (0: unknown)."""


def downloads_dir(root: Path) -> Path:
    """Where the files of releases are kept as they came."""
    return root / "downloads"


def fetch(download: Download, root: Path, report: Report) -> Path:
    """Fetch one file and unpack it; returns the file. What is there already is kept.

    Raises UnavailableError where the server does not answer, DataError for a wrong checksum or a bad archive, StorageError
    for a disk that is full.
    """
    file = downloads_dir(root) / download.file
    place = root / download.into
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(parents=True, exist_ok=True)
        unpacked = file.with_name(file.name + ".unpacked")
        if unpacked.exists() and not file.is_file():
            return file  # unpacked before, and not kept
        if not file.is_file():
            _download(download, file, report)
        if not download.file.endswith(ARCHIVES):
            shutil.copyfile(file, place / download.file)
            return file
        if not unpacked.exists():
            unpack(file, place)
            unpacked.touch()
    except OSError as error:
        raise StorageError(
            f"cannot write below {root}: {error}", "free space, check permissions, or use --data-root"
        ) from error
    return file


def checksum(file: Path) -> str:
    """md5 of a file, in hex: what releases list. It finds damage, not malice."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


# -- download ----------------------------------------------------------------------------------------------------------


def _download(download: Download, file: Path, report: Report) -> None:
    partial, tag = file.with_name(file.name + ".part"), file.with_name(file.name + ".etag")
    try:
        _receive(download, partial, tag, report)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # more was kept than the server has: another file by now
            partial.unlink(missing_ok=True)
        raise UnavailableError(
            f"{download.url}: the server answers {error.code} {error.reason}", "try again later"
        ) from error
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        kept = partial.stat().st_size if partial.is_file() else 0
        raise UnavailableError(
            f"{download.url}: {error or type(error).__name__}",
            f"{kept:,} bytes are kept; the same command goes on from there",
        ) from error
    if download.md5 and (found := checksum(partial)) != download.md5:
        partial.unlink()
        tag.unlink(missing_ok=True)
        raise DataError(f"{download.url} has md5 {found}, not {download.md5}", "it was dropped; fetch it again")
    partial.replace(file)
    tag.unlink(missing_ok=True)


def _receive(download: Download, partial: Path, tag: Path, report: Report) -> None:
    done = partial.stat().st_size if partial.is_file() else 0
    headers = {"User-Agent": "vitbench"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if tag.is_file():  # a file that was changed meanwhile is sent whole
            headers["If-Range"] = tag.read_text()
    request = urllib.request.Request(download.url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        if not resumed:
            done = 0
        if etag := answer.headers.get("ETag"):
            tag.write_text(etag)
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length else 0
        with partial.open("ab" if resumed else "wb") as sink:
            while chunk := answer.read(CHUNK):
                sink.write(chunk)
                done += len(chunk)
                report(done, total)
    if total and done != total:
        raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")


# -- unpacking ---------------------------------------------------------------------------------------------------------


def unpack(archive: Path, place: Path) -> None:
    """Unpack a zip or tar into a folder. Raises DataError, before anything is written, for one that would leave it."""
    try:
        if archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                for info in zipped.infolist():
                    _require_inside(archive, info.filename)
                zipped.extractall(place)
        else:
            with tarfile.open(archive) as tar:
                for member in tar:
                    _require_inside(archive, member.name)
                    if member.issym():
                        _require_inside(archive, f"{member.name}/../{member.linkname}", member.linkname)
                    elif member.islnk():
                        _require_inside(archive, member.linkname)
                tar.extractall(place, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}", "delete it and fetch it again") from error


def _require_inside(archive: Path, name: str, link: str = "") -> None:
    """Refuse a path that is absolute or climbs above where it starts; `link` is what a link says, which may be absolute."""
    path = PurePosixPath(name.replace("\\", "/"))
    depth, outside = 0, path.is_absolute() or link.startswith("/") or ":" in name.partition("/")[0]
    for part in path.parts:
        depth += -1 if part == ".." else 1
        outside |= depth < 0
    if outside:
        raise DataError(
            f"{archive} holds {link or name!r}, which leads out of its folder", "nothing was unpacked; do not trust it"
        )
