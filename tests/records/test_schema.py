"""What a record must hold and refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vitbench.errors import RecordError
from vitbench.identity import Slot, cell_identity
from vitbench.records.inference import MetricValue
from vitbench.records.schema import SCHEMA_VERSION, Cost, Record, decode_draws, encode_draws, parse

SLOT = Slot("lab_ssl", "none", "depth@ridge", "scenes", 0)
COMPONENTS = {"task": {"name": "depth@ridge", "version": 1}}
IDENTITY = cell_identity(SLOT, COMPONENTS)


def a_record(value: float | None = 1.5) -> Record:
    draws = np.linspace(1, 2, 10, dtype=np.float32)
    metrics = {
        "rmse": MetricValue(value, "m", False, 1.0, 2.0, 10, "", draws, "k" * 16),
        "absrel": MetricValue(0.1, "", False, 0.0, 0.2, 10, "", draws, "k" * 16),
    }
    return Record.ok(
        slot=SLOT, identity=IDENTITY, components=COMPONENTS, headline="rmse", metrics=metrics,
        cost={"seconds": {"measure": 0.5}, "forwards": 3}, flags={"lambda": np.float32(0.5), "bad": float("nan")},
    )  # fmt: skip


def test_round_trip_gives_an_equal_record() -> None:
    record = a_record()
    again = parse(record.to_json(), "here")
    assert again == record
    assert again.cost == Cost(seconds={"measure": 0.5}, forwards=3)
    assert again.slot == SLOT


def test_json_has_no_nan() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(a_record(None).to_json(), parse_constant=refuse)


def test_replicates_are_kept_of_the_headline_and_of_what_is_listed() -> None:
    record = a_record()
    assert set(record.draws) == {"rmse"}
    found = record.estimate()
    assert found is not None
    assert found.draws is not None
    np.testing.assert_array_equal(found.draws, np.linspace(1, 2, 10, dtype=np.float32))
    assert record.estimate("absrel") is not None


def test_a_null_headline_has_no_estimate() -> None:
    assert a_record(None).estimate() is None


def test_status_is_near_the_front_of_the_file() -> None:
    assert '"status": "ok"' in a_record().to_json()[:600]


def test_every_record_says_when_it_was_made() -> None:
    assert a_record().utc.endswith("Z")
    missing = Record.missing("unavailable", "no weights", "go online", slot=SLOT, identity=IDENTITY, components={})
    assert missing.utc.endswith("Z")


def test_a_failed_record_keeps_the_error_and_names_its_first_line() -> None:
    error = {"type": "ValueError", "message": "bad\nand more", "traceback": "...", "stage": "cell"}
    record = Record.failed("failed", error, slot=SLOT, identity=IDENTITY, components={})
    assert record.reason == "bad"
    assert record.error is not None
    assert record.error.stage == "cell"


def test_newer_schema_is_refused_with_the_remedy() -> None:
    text = a_record().to_json().replace('"schema_version": 1', '"schema_version": 99')
    with pytest.raises(RecordError, match=r"schema 99.*reads up to 1.*update vitbench"):
        parse(text, "x.json")


def test_older_schemas_are_migrated_step_by_step() -> None:
    data = json.loads(a_record().to_json())
    data["schema_version"] = SCHEMA_VERSION
    data["state"] = data.pop("status")

    def rename(old: dict[str, object]) -> dict[str, object]:
        return {"status" if k == "state" else k: v for k, v in old.items()}

    got = parse(json.dumps(data), "x.json", migrations={SCHEMA_VERSION: rename}, current=SCHEMA_VERSION + 1)
    assert got.status == "ok"
    assert got.schema_version == SCHEMA_VERSION + 1
    with pytest.raises(RecordError, match="can no longer be read"):
        parse(json.dumps(data), "x.json", migrations={}, current=SCHEMA_VERSION + 1)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "truncated"),
        ('{"schema_version": 1, "slot"', "truncated"),
        ("[1, 2]", "not a record"),
        ('{"name": "something else"}', "not a record"),
        ('{"schema_version": 1, "slot": {}}', "slot.backbone"),
    ],
)
def test_what_is_no_record_is_named(text: str, word: str) -> None:
    with pytest.raises(RecordError, match=word) as info:
        parse(text, "x.json")
    assert "x.json" in str(info.value)
    assert "\n" not in str(info.value)


def test_an_ok_record_must_have_its_headline() -> None:
    text = a_record().to_json().replace('"headline": "rmse"', '"headline": "other"')
    with pytest.raises(RecordError, match="headline 'other' is not among the metrics"):
        parse(text, "x.json")


def test_draws_round_trip_and_damage_is_seen() -> None:
    draws = np.array([1.5, np.nan, -2], np.float32)
    np.testing.assert_array_equal(decode_draws(encode_draws(draws)), draws)
    with pytest.raises(RecordError, match="base64"):
        decode_draws("abc")
