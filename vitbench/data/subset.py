"""Which samples a limit keeps: `N` of them, or `stratified:N` with classes (or groups of names) as even as can be.

The choice depends on names, labels and the seed alone, so that it is the same on every machine; it is part of the identity.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from vitbench.errors import UsageError

Limit = int | str | None
STRATIFIED = "stratified:"


class Described(NamedTuple):
    """A split as planning sees it: how many samples, and digests (16 hex) of which, with their targets and without.

    pictures: "" where what an image looks like may depend on the targets that are read with it.
    """

    images: int
    digest: str
    pictures: str = ""


def parse_subset(text: str) -> str:
    """`stratified:200` as typed. Raises UsageError."""
    if not re.fullmatch(rf"{STRATIFIED}[1-9]\d*", text):
        raise UsageError(f"--subset {text!r}", "write stratified:N, with N images per split")
    return text


def count_of(limit: int | str) -> int:
    """How many samples a limit keeps at most."""
    return int(limit.removeprefix(STRATIFIED)) if isinstance(limit, str) else limit


def whole_videos(videos: Sequence[str], limit: int | str, seed: int) -> list[int]:
    """Indices, in order, of the frames a limit keeps: whole videos up to so many frames, or the start of a single one."""
    count = count_of(limit)
    frames: dict[str, list[int]] = defaultdict(list)
    for i, video in enumerate(videos):
        frames[video].append(i)
    kept: list[int] = []
    for video in sorted(frames, key=lambda v: hashlib.sha256(f"{seed}/{v}".encode()).digest()):
        if not kept or len(kept) + len(frames[video]) <= count:
            kept += frames[video]
    return sorted(kept[:count])


def chosen(keys: Sequence[str], groups: Sequence[object] | None, limit: int | str, seed: int) -> list[int]:
    """Indices, in order, of the samples a limit keeps. groups: label per sample; None: the first part of each key."""
    count = count_of(limit)
    if count >= len(keys):
        return list(range(len(keys)))
    order = sorted(range(len(keys)), key=lambda i: hashlib.sha256(f"{seed}/{keys[i]}".encode()).digest())
    if isinstance(limit, int):
        return sorted(order[:count])
    piles: dict[object, list[int]] = defaultdict(list)
    for i in order:
        piles[groups[i] if groups is not None else keys[i].partition("/")[0]].append(i)
    # Dealt in turn from every pile: round r holds the r-th sample of each.
    rank = {i: r for pile in piles.values() for r, i in enumerate(pile)}
    return sorted(sorted(order, key=lambda i: rank[i])[:count])
