"""What tables need of a record, straight from its file: only that is validated, so that many files are read quickly."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json

from vitbench.catalogue import TASKS
from vitbench.errors import RecordError
from vitbench.identity import Slot, digest
from vitbench.records.schema import SCHEMA_VERSION, Cost, Metric, Record, Status, document, validated

Summary = list[Any]
"""What tables need, in the order of FIELDS: names in every one of tens of thousands would be half of it."""

FIELDS = (
    *("slot", "identity", "status", "reason", "remedy"),
    *("metric", "unit", "higher_is_better", "value", "ci_low", "ci_high", "n", "note"),
    *("draws_key", "comparable", "version"),
    *("forwards_per_image", "fit_seconds", "extra_parameters", "peak_memory_bytes", "seconds", "machine"),
    *("commit", "dirty", "utc", "flags"),
)
_NO_METRIC = ("", "", True, None, None, None, 0, "")
_MACHINE = ("device", "driver", "platform", "cpu")


class _Needed(BaseModel):
    """The part of a record that tables read; the rest of the file is neither looked at nor checked."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    slot: Slot
    identity: str = Field(pattern=r"^[0-9a-f]{16}$")
    status: Status
    reason: str = ""
    remedy: str = ""
    headline: str = ""
    metrics: dict[str, Any] = Field(default_factory=dict)
    cost: Cost = Field(default_factory=Cost)
    flags: dict[str, Any] = Field(default_factory=dict)
    components: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    draws_key: str = ""
    draws: dict[str, str] = Field(default_factory=dict)


class _Current(_Needed):
    """The same of a record of the current schema with nothing amiss: text to values in one go, replicates included."""

    model_config = ConfigDict(val_json_bytes="base64")

    schema_version: Literal[SCHEMA_VERSION]  # type: ignore[valid-type]
    metrics: dict[str, Metric] = Field(default_factory=dict)
    draws: dict[str, bytes] = Field(default_factory=dict)  # type: ignore[assignment]


def summarised(path: str) -> tuple[Summary, bytes]:
    """The fields of an entry as JSON data, and the headline's replicates as float32 bytes. Raises RecordError."""
    try:
        # Tens of thousands of Path objects, or of buffers, cost as much as reading.
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            content = file.read()
    except OSError as error:
        raise RecordError(f"record {path} cannot be read: {error.strerror or error}") from None
    try:
        whole = _Current.model_validate_json(content)
        if whole.headline in whole.metrics or whole.status != "ok":
            return _summary(whole), whole.draws.get(whole.headline, b"")
    except ValidationError:
        pass  # older, newer or wrong: read step by step, which says what it is
    return _step_by_step(content, path)


def _step_by_step(content: bytes, where: str) -> tuple[Summary, bytes]:
    found = validated(_Needed, document(content, where), where)
    if found.status == "ok" and found.headline not in found.metrics:
        raise RecordError(f"{where}: headline {found.headline!r} is not among the metrics", "run the cell again")
    if found.headline in found.metrics:
        metric = found.metrics[found.headline]
        if not isinstance(metric, dict):
            raise RecordError(f"{where}: metric {found.headline!r} is not an object", "run the cell again")
        found.metrics[found.headline] = validated(Metric, metric, where)
    return _summary(found), _replicates(found, where)


def summary_of(record: Record) -> tuple[Summary, bytes]:
    """The same of a record in memory."""
    return _summary(record), _replicates(record, f"the record of {record.slot.backbone}")


def _replicates(record: Record | _Needed, where: str) -> bytes:
    text = record.draws.get(record.headline, "")
    try:
        return base64.b64decode(text, validate=True) if text else b""
    except (binascii.Error, ValueError):
        raise RecordError(f"{where}: bootstrap draws are not base64 float32", "measure the cell again") from None


def _summary(record: Record | _Needed) -> Summary:
    slot, cost, provenance = record.slot, record.cost, record.provenance
    m = record.metrics.get(record.headline)
    measured = _NO_METRIC if m is None else (
        record.headline, m.unit, m.higher_is_better, m.value, m.ci_low, m.ci_high, m.n, m.note,
    )  # fmt: skip
    return [
        [slot.backbone, slot.repair, slot.task, slot.dataset, slot.seed],
        record.identity,
        record.status,
        record.reason,
        record.remedy,
        *measured,
        record.draws_key,
        _comparable(*(to_json(record.components.get(part, {})) for part in ("task", "data"))),
        str(record.components.get("task", {}).get("version", "")),
        cost.forwards_per_image,
        cost.fit_seconds,
        cost.extra_parameters,
        cost.peak_memory_bytes,
        sum(cost.seconds.values()) if cost.seconds else None,
        " ".join(str(v) for name in _MACHINE if (v := provenance.get(name))),
        str(provenance.get("commit", "")),
        provenance.get("dirty"),
        str(provenance.get("utc", "")),
        sorted(name for name, value in record.flags.items() if value is True),
    ]


@lru_cache(maxsize=4096)
def _comparable(task: bytes, data: bytes) -> str:
    """Digest of the comparable part; most records of a folder share it with many others."""
    return digest(comparable_part({"task": from_json(task), "data": from_json(data)}))


def comparable_part(components: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree in two identities: task, protocol version and settings, and the images the task reads.

    A fitted repair also lists the train images it was fitted on; those do not make the task another one.
    """
    task, data = components.get("task", {}), components.get("data", {})
    name = str(task.get("name", "")).partition("@")[0]
    reads = TASKS.get(name).splits if name in TASKS else ("val",)
    splits = {split: key for split, key in data.get("splits", {}).items() if split in reads}
    return {"task": task, "data": {**data, "splits": splits}}
