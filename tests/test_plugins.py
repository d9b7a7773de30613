"""`--plugin FILE`."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitbench.errors import UsageError
from vitbench.plugins import load_plugins


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "carries a card"),
        ("import no_such_module\n", "no_such_module"),
        ("def f(:\n", "SyntaxError"),
    ],
)
def test_a_plugin_that_is_none_is_one_line_naming_the_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as raised:
        load_plugins([str(path)])
    assert "mine.py" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_plugin_is_named() -> None:
    with pytest.raises(UsageError, match=r"nowhere\.py"):
        load_plugins(["nowhere.py"])


def test_a_plugin_may_not_take_a_name_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from vitbench.catalogue import REPAIRS\nfrom vitbench.repairs.base import Repair\n"
        "class Mine(Repair):\n    card = REPAIRS.get('zscore')\n"
    )
    with pytest.raises(UsageError, match=r"zscore.*already registered"):
        load_plugins([str(path)])
