"""Where a data set comes from, and what it must become on disk. Plain data; `vitbench data` and the loaders read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Download:
    """One file to fetch. md5: of the file, "" where none was published; `into`: folder below the data root to unpack in."""

    url: str
    md5: str = ""
    into: str = ""

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Parquet:
    """A Hugging Face data set stored as parquet. splits: ours -> the prefix of its files; columns: ours -> its."""

    id: str
    splits: Mapping[str, str]
    columns: Mapping[str, str]

    @property
    def folder(self) -> str:
        return f"hub/{self.id.replace('/', '--')}"


@dataclass(frozen=True)
class Release:
    """How to obtain a data set.

    folder: what it must become below the data root; `also`: other folders in which it is found as well.
    obtain: one line on where it is and which licence step it takes. size: of what is to be downloaded, in units of 1,000,
    where known. facts_from: where size, checksums, counts or licence were read, other than on the page of the release.
    downloads: files that need no such step; only these are fetched. hub: the same as parquet on Hugging Face, which is
    read where the folder is not there; hub_note: what else is there, and whether it loads.
    """

    folder: str
    obtain: str
    size: str = ""
    facts_from: str = ""
    also: tuple[str, ...] = ()
    downloads: tuple[Download, ...] = ()
    hub: Parquet | None = None
    hub_note: str = ""

    def remedy(self) -> str:
        """The instruction printed where the data are not there."""
        size = f" ({self.size})" if self.size else ""
        root = "(--data-root, VITBENCH_DATA or vitbench.toml)"
        return f"{self.obtain}{size}; it must become DATA_ROOT/{self.folder}{self._or_hub()} {root}"

    def _or_hub(self) -> str:
        if self.hub is None or self.hub.folder == self.folder:
            return ""
        return f"; or `hf download {self.hub.id} --repo-type dataset --local-dir DATA_ROOT/{self.hub.folder}`"


@cache
def class_names(file: str) -> tuple[str, ...]:
    """Names of classes by index, from a list that ships with the package: one a line."""
    path = Path(__file__).parent / "classes" / f"{file}.txt"
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


@cache
def palette(name: str, count: int = 256) -> tuple[tuple[int, int, int], ...]:
    """Colours of classes by index: those of a release, or VOC's, whose bits are dealt to red, green and blue in turn.

    Those of a release are in a list that ships with the package, as hexadecimal red, green and blue.
    """
    if name != "voc":
        lines = (Path(__file__).parent / "palettes" / f"{name}.txt").read_text(encoding="utf-8").split()
        return tuple((int(line[:2], 16), int(line[2:4], 16), int(line[4:], 16)) for line in lines)
    colours = []
    for index in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colours.append((channels[0], channels[1], channels[2]))
    return tuple(colours)
