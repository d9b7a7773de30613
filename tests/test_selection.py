"""Names with brackets, chains and lists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitbench.errors import UsageError
from vitbench.selection import Term, overrides, parse_chain, parse_term, split_list, with_params


@dataclass(frozen=True)
class Params:
    m: int | float = 200
    field: Literal["patch", "key"] = "patch"
    strict: bool = False
    cut: float | None = None


def test_commas_inside_brackets_do_not_split_a_list() -> None:
    assert split_list("a[x=1,y=2], b ,c+d[z=3]") == ["a[x=1,y=2]", "b", "c+d[z=3]"]


def test_a_chain_keeps_the_parameters_of_each_part() -> None:
    assert parse_chain("a[x=1]+b") == (Term("a", (("x", "1"),)), Term("b"))


@pytest.mark.parametrize("text", ["a[x=1", "a]x", "a[x=1]b", "a[[x=1]]", "a[x]", "", "[x=1]"])
def test_malformed_names_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        [parse_term(part) for part in split_list(text) or [text]]


def test_parameters_take_the_type_of_their_field() -> None:
    made = with_params(Params(), parse_term("r[m=0.5,field=key,strict=yes,cut=none]"), "repair")
    assert made == Params(m=0.5, field="key", strict=True, cut=None)
    assert with_params(Params(), parse_term("r[m=50]"), "repair").m == 50
    assert isinstance(with_params(Params(), parse_term("r[m=50]"), "repair").m, int)


def test_an_unknown_parameter_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no parameter 'k'.*m, field, strict, cut"):
        with_params(Params(), parse_term("r[k=1]"), "repair")


def test_a_value_outside_a_choice_names_the_choices() -> None:
    with pytest.raises(UsageError, match="patch or key"):
        with_params(Params(), parse_term("r[field=value]"), "repair")


@given(st.integers(1, 999), st.sampled_from(["patch", "key"]), st.booleans())
def test_canonical_brackets_round_trip(m: int, field: str, strict: bool) -> None:
    made = Params(m=m, field=field, strict=strict)  # type: ignore[arg-type]
    assert with_params(Params(), parse_term(str(Term("r", overrides(Params(), made)))), "repair") == made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("r[m=2,m=3]", "m is given twice"),
        ("r[cut=nan]", "cut='nan'"),
        ("r(m=2)", r"write r\[m=2\]"),
        ("r{m=2}", r"write r\[m=2\]"),
    ],
)
def test_what_can_mean_two_things_or_nothing_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        with_params(Params(), parse_term(text), "repair")


@pytest.mark.parametrize("text", ["a+", "+a", "a++b"])
def test_a_chain_with_a_gap_is_shown_whole(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(text))):
        parse_chain(text)


def test_blanks_before_brackets_do_not_count() -> None:
    assert parse_term("r [m=2]") == parse_term("r[m=2]")
