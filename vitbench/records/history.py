"""The history of nightly runs: one file a night, one line of JSON per headline. Folders merge by copying.

Replicates are kept short (the first 200, as float16 deviations from the value): enough for the paired spread of a
difference between nights, at under a kilobyte a line.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitbench.errors import RecordError
from vitbench.identity import Slot
from vitbench.paths import file_name
from vitbench.records.index import Entry
from vitbench.records.inference import Draws, Estimate
from vitbench.records.store import explained, write_atomic

VERSION = 1
_KEPT = 200


@dataclass(frozen=True)
class Point:
    """A headline on one night. weights: digest of the backbone; comparable: digest of what makes it the same measurement.

    source: the file that the weights were given in, if they were.
    """

    night: str
    commit: str
    weights: str
    slot: Slot
    metric: str
    unit: str
    higher_is_better: bool
    value: float
    ci_low: float | None
    ci_high: float | None
    groups: int
    comparable: str
    draws_key: str
    draws: Draws | None
    source: str = ""

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, self.draws, self.draws_key, self.groups)


@dataclass(frozen=True)
class History:
    """All points, oldest night first, and the lines that are none."""

    points: tuple[Point, ...] = ()
    problems: tuple[str, ...] = ()


class Weights(NamedTuple):
    """What a night was measured with: the digest, and the name of the file if one was given."""

    digest: str
    source: str = ""


def write_night(
    folder: Path, entries: Iterable[Entry], night: str, commit: str, weights: Callable[[Entry], Weights]
) -> Path:
    """Write the headlines of a night (UTC, ISO 8601) to a new file. Raises RecordError or StorageError."""
    lines = [_line(e, night, commit, weights(e)) for e in entries if e.status == "ok" and e.value is not None]
    stamp = file_name(night.replace("-", "").replace(":", ""))
    path = folder / f"{stamp}-{commit[:10] or 'release'}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, "".join(lines).encode())
    except OSError as error:
        raise explained(error, folder) from error
    return path


def read_history(folder: Path) -> History:
    """The history in a folder; empty where there is none yet. A line that cannot be read takes no other with it."""
    points, problems = [], []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if line.strip():
                try:
                    points.append(_point(line))
                except RecordError as error:
                    problems.append(f"{path}, line {number} {error}")
    return History(tuple(sorted(points, key=lambda p: (p.night, p.slot))), tuple(problems))


def _line(e: Entry, night: str, commit: str, weights: Weights) -> str:
    kept: dict[str, Any] = {}
    if e.draws is not None and e.value is not None:
        deviations = e.draws[:_KEPT].astype(np.float64) - e.value
        scale = float(np.nanstd(deviations)) or 1.0
        packed = np.ascontiguousarray(deviations / scale, "<f2").tobytes()
        kept = {"key": e.draws_key, "scale": scale, "draws": base64.b64encode(packed).decode()}
    data = {
        "v": VERSION,
        "night": night,
        "commit": commit,
        "weights": weights.digest,
        **({"file": weights.source} if weights.source else {}),
        "slot": [e.slot.backbone, e.slot.repair, e.slot.task, e.slot.dataset, e.slot.seed],
        "metric": e.metric,
        "unit": e.unit,
        "up": e.higher_is_better,
        "value": e.value,
        "ci": [e.ci_low, e.ci_high],
        "n": e.n,
        "comparable": e.comparable,
        **kept,
    }
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def _point(line: str) -> Point:
    try:
        data = json.loads(line)
        if data["v"] > VERSION:
            raise RecordError("was written by a newer vitbench", "update vitbench")
        draws = None
        if "draws" in data:
            packed = np.frombuffer(base64.b64decode(data["draws"], validate=True), "<f2").astype(np.float64)
            draws = (data["value"] + data["scale"] * packed).astype(np.float32)
        low, high = data["ci"]
        return Point(
            data["night"], data["commit"], data["weights"], Slot(*data["slot"]), data["metric"], data["unit"], data["up"],
            data["value"], low, high, data["n"], data["comparable"], data.get("key", ""), draws, data.get("file", ""),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        raise RecordError("is truncated or no line of a history", "delete the line") from None
