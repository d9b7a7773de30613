"""Downloading from a server of our own: resumed, checked, unpacked without leaving the folder."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from tests.servers import Server, zipped
from vitbench.catalogue.release import Download
from vitbench.data.fetch import fetch, unpack
from vitbench.errors import DataError, UnavailableError


def tarred(names: dict[str, bytes], link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as out:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if link:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, link, 0
            out.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def quiet(done: int, total: int) -> None:
    return None


CONTENT = {"set/images/a.jpg": b"picture" * 40_000, "set/list.txt": b"a\n"}


@pytest.mark.parametrize("name", ["set.zip", "set.tar.gz"])
def test_an_archive_is_fetched_checked_and_unpacked_once(name: str, server: Server, tmp_path: Path) -> None:
    body = zipped(CONTENT) if name.endswith("zip") else tarred(CONTENT)
    server.files[name] = body
    download = Download(server.url(name), hashlib.md5(body).hexdigest(), into="below")
    heard: list[tuple[int, int]] = []
    fetch(download, tmp_path, lambda done, total: heard.append((done, total)))
    assert (tmp_path / "below/set/images/a.jpg").read_bytes() == CONTENT["set/images/a.jpg"]
    assert heard[-1] == (len(body), len(body))
    fetch(download, tmp_path, quiet)
    assert len(server.asked) == 1, "what is there is not fetched again"


def test_a_file_that_is_no_archive_is_put_in_its_place(server: Server, tmp_path: Path) -> None:
    server.files["list.txt"] = b"train2014/x.jpg\n"
    fetch(Download(server.url("list.txt"), into="coco"), tmp_path, quiet)
    assert (tmp_path / "coco/list.txt").read_text() == "train2014/x.jpg\n"


def test_a_broken_connection_is_resumed_where_it_ended(server: Server, tmp_path: Path) -> None:
    body = server.files["set.zip"] = zipped({"a": bytes(range(256)) * 300})
    download = Download(server.url("set.zip"), hashlib.md5(body).hexdigest())
    server.cut = 1000
    with pytest.raises(UnavailableError, match="1,000 bytes are kept"):
        fetch(download, tmp_path, quiet)
    fetch(download, tmp_path, quiet)
    assert server.asked == [None, "bytes=1000-"]
    assert (tmp_path / "a").stat().st_size == 256 * 300


@pytest.mark.parametrize("change", ["etag", "no ranges"])
def test_a_file_that_changed_or_a_server_without_ranges_starts_anew(
    change: str, server: Server, tmp_path: Path
) -> None:
    server.files["set.zip"] = zipped({"a": b"old" * 999})
    server.cut = 100
    with pytest.raises(UnavailableError):
        fetch(Download(server.url("set.zip")), tmp_path, quiet)
    body = server.files["set.zip"] = zipped({"a": b"new" * 999})
    if change == "etag":
        server.etag = '"two"'
    else:
        server.ranges = False
    fetch(Download(server.url("set.zip"), hashlib.md5(body).hexdigest()), tmp_path, quiet)
    assert (tmp_path / "a").read_bytes() == b"new" * 999


def test_a_wrong_checksum_is_told_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    server.files["set.zip"] = zipped(CONTENT)
    with pytest.raises(DataError, match="has md5"):
        fetch(Download(server.url("set.zip"), "0" * 32), tmp_path, quiet)
    assert not list(tmp_path.rglob("*.zip*"))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("name", ["gone.zip"])
def test_a_file_that_is_not_on_the_server_is_named(name: str, server: Server, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"gone\.zip.*404"):
        fetch(Download(server.url(name)), tmp_path, quiet)


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"):
        fetch(Download("http://127.0.0.1:9/set.zip"), tmp_path, quiet)


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/outside.txt", "set/../../outside.txt", "..\\outside.txt", "C:/outside"]
)
@pytest.mark.parametrize("make, suffix", [(zipped, "zip"), (tarred, "tar.gz")])
def test_an_archive_that_climbs_out_of_its_folder_is_refused_whole(
    name: str, make, suffix: str, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    archive = tmp_path / f"evil.{suffix}"
    archive.write_bytes(make({"fine.txt": b"1", name: b"2"}))
    place = tmp_path / "data"
    place.mkdir()
    with pytest.raises(DataError, match=rf"evil\.{suffix}.*leads out of its folder"):
        unpack(archive, place)
    assert not list(place.iterdir())
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../passwd", "../../passwd", "x/../../../passwd"])
def test_a_link_out_of_the_folder_is_refused(target: str, tmp_path: Path) -> None:
    archive = tmp_path / "links.tgz"
    archive.write_bytes(tarred({"passwd": b""}, link=target))
    with pytest.raises(DataError, match="leads out"):
        unpack(archive, tmp_path)


def test_a_link_within_the_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/list.txt").write_text("a")
    archive = tmp_path / "links.tgz"
    archive.write_bytes(tarred({"set/latest": b""}, link="../set/list.txt"))
    unpack(archive, tmp_path)
    assert (tmp_path / "set/latest").read_text() == "a"


@pytest.mark.parametrize("name", ["cut.zip", "cut.tar.gz"])
def test_an_archive_that_is_cut_short_is_named(name: str, tmp_path: Path) -> None:
    body = zipped(CONTENT) if name.endswith("zip") else tarred(CONTENT)
    (tmp_path / name).write_bytes(body[: len(body) // 2])
    with pytest.raises(DataError, match=f"{name} cannot be unpacked"):
        unpack(tmp_path / name, tmp_path)
