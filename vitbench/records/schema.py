"""The record of a cell: one JSON document with scores, intervals, provenance, cost and status.

No NaN in JSON: an undefined value is null and its note says why. Newer schemas are refused, older ones migrated.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from vitbench.errors import RecordError
from vitbench.identity import Slot
from vitbench.records.inference import Draws, Estimate, MetricValue
from vitbench.records.provenance import utc_now

SCHEMA_VERSION = 1

Status = Literal["ok", "failed", "oom", "timeout", "unavailable", "not_applicable"]
Json = dict[str, Any]
Migration = Callable[[Json], Json]
Model = TypeVar("Model", bound=BaseModel)

MIGRATIONS: Mapping[int, Migration] = {}
"""Schema version -> function that gives the same document in the next version."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(_Frozen):
    """One score. n: groups behind it; `note` says why the value or the interval is null."""

    value: float | None
    unit: str
    higher_is_better: bool
    ci_low: float | None = None
    ci_high: float | None = None
    n: int = 0
    note: str = ""


class Cost(_Frozen):
    """What the cell took. seconds by phase (extract, fit, measure, ...); shared passes count once, where they ran."""

    seconds: dict[str, float] = {}
    forwards: int = 0
    forwards_per_image: float | None = None
    fit_seconds: float | None = None
    extra_parameters: int | None = None
    peak_memory_bytes: int | None = None
    bytes: int | None = None


class Failure(_Frozen):
    """The exception that ended a cell; `stage` is the phase it happened in."""

    type: str = ""
    message: str
    traceback: str = ""
    stage: str = ""


class Record(_Frozen):
    """A finished cell, good or bad. `draws`: base64 float32 replicates of the headline and other listed metrics."""

    schema_version: int = SCHEMA_VERSION
    slot: Slot
    identity: str = Field(pattern=r"^[0-9a-f]{16}$")
    status: Status  # near the front of the file, so that resuming need not parse whole records
    reason: str = ""
    remedy: str = ""
    headline: str = ""
    metrics: dict[str, Metric] = {}
    cost: Cost = Cost()
    flags: dict[str, Any] = {}
    error: Failure | None = None
    components: dict[str, Any] = {}
    provenance: dict[str, Any] = {}
    draws_key: str = ""
    draws: dict[str, str] = {}

    @model_validator(mode="after")
    def _headline_is_a_metric(self) -> Record:
        if self.status == "ok" and self.headline not in self.metrics:
            raise ValueError(f"headline {self.headline!r} is not among the metrics")
        return self

    @classmethod
    def ok(
        cls,
        *,
        slot: Slot,
        identity: str,
        components: Mapping[str, Any],
        headline: str,
        metrics: Mapping[str, MetricValue],
        keep_draws: Sequence[str] = (),
        cost: Cost | Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
        flags: Mapping[str, Any] | None = None,
    ) -> Record:
        """The record of a measured cell; replicates are kept of the headline and of `keep_draws`."""
        kept = {n: d for n in (headline, *keep_draws) if n in metrics and (d := metrics[n].draws) is not None}
        return cls(
            slot=slot,
            identity=identity,
            status="ok",
            headline=headline,
            metrics={name: _metric(value) for name, value in metrics.items()},
            cost=Cost.model_validate(cost or {}),
            flags=_finite(dict(flags or {})),
            components=dict(components),
            provenance=_dated(provenance),
            draws_key=next((metrics[name].draws_key for name in kept), ""),
            draws={name: encode_draws(draws) for name, draws in kept.items()},
        )

    @classmethod
    def missing(
        cls,
        status: str,
        reason: str,
        remedy: str = "",
        *,
        slot: Slot,
        identity: str,
        components: Mapping[str, Any],
        provenance: Mapping[str, Any] | None = None,
    ) -> Record:
        """The record of a cell that could not or should not be measured."""
        return cls(
            slot=slot,
            identity=identity,
            status=cast(Status, status),  # checked by the model
            reason=reason,
            remedy=remedy,
            components=dict(components),
            provenance=_dated(provenance),
        )

    @classmethod
    def failed(
        cls,
        status: str,
        error: Failure | Mapping[str, str],
        *,
        slot: Slot,
        identity: str,
        components: Mapping[str, Any],
        provenance: Mapping[str, Any] | None = None,
    ) -> Record:
        """The record of a cell that raised (failed, oom, timeout), with the error; its first line is the reason."""
        failure = Failure.model_validate(error)
        first = failure.message.strip().partition("\n")[0]
        return cls(
            slot=slot,
            identity=identity,
            status=cast(Status, status),  # checked by the model
            reason=first or failure.type or status,
            error=failure,
            components=dict(components),
            provenance=_dated(provenance),
        )

    @property
    def utc(self) -> str:
        """When it was made, ISO 8601; empty if unknown."""
        return str(self.provenance.get("utc", ""))

    def estimate(self, metric: str = "") -> Estimate | None:
        """A metric (default: the headline) with its replicates; None where it has no value."""
        name = metric or self.headline
        found = self.metrics.get(name)
        if found is None or found.value is None:
            return None
        draws = decode_draws(self.draws[name]) if name in self.draws else None
        return Estimate(found.value, draws, self.draws_key, found.n)

    def to_json(self) -> str:
        return self.model_dump_json(indent=1) + "\n"


def encode_draws(draws: Draws) -> str:
    """(d,) float32 -> base64 of the little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(draws, "<f4").tobytes()).decode()


def decode_draws(text: str) -> Draws:
    """base64 -> (d,) float32. Raises RecordError."""
    try:
        return np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except (binascii.Error, ValueError):
        raise RecordError("bootstrap draws are not base64 float32", "measure the cell again") from None


def parse(
    text: str | bytes, where: str, migrations: Mapping[int, Migration] = MIGRATIONS, current: int = SCHEMA_VERSION
) -> Record:
    """JSON text -> Record; `where` names it in errors. Raises RecordError for what is not a readable record."""
    return validated(Record, document(text, where, migrations, current), where)


def document(
    text: str | bytes, where: str, migrations: Mapping[int, Migration] = MIGRATIONS, current: int = SCHEMA_VERSION
) -> Json:
    """JSON text -> the document of a record in the current schema, not yet validated. Raises RecordError."""
    try:
        data = from_json(text)
    except ValueError:
        raise RecordError(f"{where} is truncated or not JSON", "delete it and run the cell again") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if not isinstance(version, int) or "slot" not in data:
        raise RecordError(f"{where} is not a record of vitbench", "keep other JSON files out of the records folder")
    if version > current:
        newer = f"{where} has record schema {version}, this vitbench reads up to {current}"
        raise RecordError(newer, "update vitbench")
    while version < current:
        if version not in migrations:
            raise RecordError(f"{where} has record schema {version}, which can no longer be read", "run the cell again")
        data = migrations[version](data)
        version += 1
        data["schema_version"] = version
    found: Json = data
    return found


def validated(model: type[Model], data: Json, where: str) -> Model:
    """A document as a model; the first thing wrong with it is named. Raises RecordError."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{where}: key {key!r}: {first['msg'].lower()}", "run the cell again") from None


def _dated(provenance: Mapping[str, Any] | None) -> Json:
    """Every record says when it was made: the newest of a slot is the current one."""
    return {"utc": utc_now(), **_finite(dict(provenance or {}))}


def _metric(value: MetricValue) -> Metric:
    return Metric(
        value=value.value,
        unit=value.unit,
        higher_is_better=value.higher_is_better,
        ci_low=value.ci_low,
        ci_high=value.ci_high,
        n=value.n,
        note=value.note,
    )


def _finite(value: Any) -> Any:
    """The same structure with NumPy scalars unwrapped and non-finite numbers as text, which JSON can hold."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, np.generic | np.ndarray):
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
