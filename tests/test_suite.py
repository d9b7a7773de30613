"""Suites: errors name the file and the line or key."""

from __future__ import annotations

import pytest

from vitbench.errors import UsageError
from vitbench.suite import load_suite, parse_suite, suite_names

GOOD = """
name = "mine"
[[select]]
backbones = ["lab_ssl"]
tasks = ["depth"]
datasets = ["scenes"]
"""


def test_a_suite_has_defaults() -> None:
    suite = parse_suite(GOOD, "mine.toml")
    assert suite.seeds == [0]
    assert suite.select[0].repairs == ["none"]


def test_an_unknown_key_is_named_with_its_place() -> None:
    with pytest.raises(UsageError, match=r"mine.toml: key 'select.0.backbone'"):
        parse_suite(GOOD.replace("backbones", "backbone"), "mine.toml")


def test_a_syntax_error_names_the_line() -> None:
    with pytest.raises(UsageError, match=r"mine.toml: .*line 4"):
        parse_suite(GOOD.replace('backbones = ["lab_ssl"]', "backbones = = 3"), "mine.toml")


def test_an_unknown_suite_lists_the_shipped_ones() -> None:
    with pytest.raises(UsageError, match="lab"):
        load_suite("labb")


@pytest.mark.parametrize("name", suite_names())
def test_shipped_suites_parse_and_carry_their_name(name: str) -> None:
    assert load_suite(name).name == name
