"""A protocol's numbers may change only together with its version."""

from __future__ import annotations

import json

import pytest

from .protocol_numbers import FILE, numbers


@pytest.fixture(scope="module")
def found():
    return numbers()


def test_every_protocol_has_golden_numbers_of_its_version(found):
    kept = json.loads(FILE.read_text())
    assert {k: v["version"] for k, v in kept.items()} == {k: v["version"] for k, v in found.items()}, (
        "a protocol was added or its version raised: python -m tests.tasks.protocol_numbers"
    )


def test_numbers_are_those_of_the_version(found):
    kept = json.loads(FILE.read_text())
    for name, golden in kept.items():
        if golden["version"] == found[name]["version"]:
            assert found[name]["values"] == pytest.approx(golden["values"], rel=1e-3, abs=1e-3), (
                f"{name} gives other numbers: raise its version, then python -m tests.tasks.protocol_numbers"
            )
