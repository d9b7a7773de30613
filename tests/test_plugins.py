"""`--plugin FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vitbench.catalogue import REPAIRS, TASKS
from vitbench.catalogue.resolve import expand_repairs, repair_chain
from vitbench.catalogue.sound import require_sound
from vitbench.errors import UsageError
from vitbench.plugins import code_digest, load_plugins, loaded_code, register, require_code
from vitbench.registry import Registry

HEAD = """
from dataclasses import dataclass, field
from vitbench.catalogue.cards import RepairCard
from vitbench.catalogue.repairs import NoParams
from vitbench.repairs.base import Repair

def card(name="mine", params=NoParams(), acts_on=("patch",), family="map", **other):
    return RepairCard(name, None, params, family, acts_on, "a plug-in", **other)
"""


def plugin(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "carries a card"),
        ("import no_such_module\n", "no_such_module"),
        ("def f(:\n", r"SyntaxError: .*\(mine.py, line 1\)$"),
        ("x = 1\ny = {}['k']\n", r"KeyError: 'k' \(mine.py:2\)"),
        ("raise SystemExit('no')\n", "SystemExit: no"),
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
        f"class Mine(Repair):\n    card = REPAIRS.get('unit')\n{MAPS}"
    )
    with pytest.raises(UsageError, match=r"unit.*already registered"):
        load_plugins([str(path)])


MAPS = "    def map_field(self, x, state, tokens, name):\n        return x\n"
FITS = "    def fit(self, context):\n        return {}\n"
EDITS = "    def edit(self, backbone, state):\n        return backbone\n"


@pytest.mark.parametrize(
    ("card", "methods", "words"),
    [
        ("card()", EDITS, "set edits=True"),
        ("card()", FITS + MAPS, "set needs_fit=True"),
        ("card(edits=True)", MAPS, "it has no edit"),
        ("card(needs_fit=True)", MAPS, "it has no fit"),
        ("card(edits=True)", EDITS + MAPS, "join them"),
        ("card()", "    def map(self, tokens, states):\n        return tokens\n", "override map_field"),
        ("card(acts_on=('patches',))", MAPS, "patches"),
        ("card(acts_on='patch')", MAPS, r"acts_on=\('patch',\)"),
        ("card(acts_on=())", MAPS, "applicable to nothing"),
        ("card(needs=('norm',))", MAPS, r"repair 'mine' of plugin .*unknown token field 'norm'"),
        ("card(needs='norms')", MAPS, r"write needs=\('norms',\)"),
        ("card(family='mapp')", MAPS, "family='mapp' cannot be - it is one of none, map, edit"),
        ("card(family='edit')", MAPS, "set family='map', or edits=True"),
        ("card(edits=True)", EDITS, "set family='edit'"),
        ("card(role='baseline')", MAPS, "one of repair, control"),
        ("card(version=0)", MAPS, "it counts from 1"),
        ("card(version='two')", MAPS, "version='two' cannot be - it is int"),
        ("card(forwards=3)", MAPS, "forwards=3 cannot be - it is a function"),
        ("card(7)", MAPS, "letters, digits"),
        ("card()", "    def map_feild(self, x, state, tokens, name):\n        return x\n", "it changes nothing"),
        ("card('my repair')", MAPS, "letters, digits"),
        ("card('a+b')", MAPS, "letters, digits"),
        ("card(params=NoParams)", MAPS, r"params=NoParams\(\)"),
        ("card(params={})", MAPS, "no|not an instance of a dataclass"),
        ("card(params=Loose())", MAPS, "frozen=True"),
        ("card(params=Listed())", MAPS, "xs has a type"),
        ("card(applied_only=('k',))", MAPS, "applied_only names 'k'"),
    ],
)
def test_a_card_that_would_leave_code_uncalled_or_names_unread_is_refused(
    tmp_path: Path, card: str, methods: str, words: str
) -> None:
    params = (
        "@dataclass\nclass Loose:\n    k: int = 1\n"
        "@dataclass(frozen=True)\nclass Listed:\n    xs: list[int] = field(default_factory=list)\n"
    )
    with pytest.raises(UsageError, match=words):
        load_plugins([plugin(tmp_path, f"{params}class Mine(Repair):\n    card = {card}\n{methods}")])


def test_a_class_that_is_no_repair_is_refused_when_it_is_registered(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"derive it from vitbench\.repairs\.base\.Repair"):
        load_plugins([plugin(tmp_path, f"class Mine:\n    card = card()\n{MAPS}")])


def test_all_that_is_shipped_keeps_what_is_asked_of_plugins() -> None:
    registries: tuple[Registry[Any], ...] = (REPAIRS, TASKS)
    for registry in registries:
        for card in registry:
            require_sound(registry.kind, card, registry.load(card.name), "vitbench")


def test_two_classes_with_one_name_are_refused(tmp_path: Path) -> None:
    one = f"class One(Repair):\n    card = card()\n{MAPS}"
    with pytest.raises(UsageError, match="One and Two carry the same name 'mine'"):
        load_plugins([plugin(tmp_path, one + "class Two(One):\n    k = 1\n")])


def test_files_of_one_name_in_two_folders_are_two_plugins(tmp_path: Path) -> None:
    body = f"class Mine(Repair):\n    card = card()\n{MAPS}"
    first, second = (plugin(tmp_path, body, f"{folder}/mine.py") for folder in ("a", "b"))
    assert load_plugins([first, first]) == ["mine", "mine"]
    with pytest.raises(UsageError, match=r"already registered by plugin .*a/mine\.py"):
        load_plugins([second])


def test_other_code_is_another_repair_and_other_comments_are_not(tmp_path: Path) -> None:
    body = f"class Mine(Repair):\n    card = card()\n{MAPS}"
    identities = []
    for text in (body, f"# why\n{body}", body.replace("return x", "return x + 1")):
        load_plugins([plugin(tmp_path, text)])
        [step] = repair_chain("mine")
        identities.append((step.versioned, step.fitted))
    assert identities[0] == identities[1] != identities[2]
    assert expand_repairs("mine") == ["mine"], "the slot is as before"


def test_a_class_registered_from_python_is_told_by_its_source() -> None:
    from vitbench.catalogue.cards import RepairCard
    from vitbench.catalogue.repairs import NoParams
    from vitbench.repairs.base import Repair

    class Here(Repair[NoParams]):
        card = RepairCard("here", None, NoParams(), "map", ("patch",), "a test")

        def map_field(self, x, state, tokens, name):
            return x

    register(Here)
    assert len(REPAIRS.get("here").code) == 16
    assert not REPAIRS.get("zscore").code
    assert code_digest("x = 1  # one") == code_digest("x=1") != code_digest("x = 2")


def test_a_worker_that_finds_an_edited_plugin_refuses_it(tmp_path: Path) -> None:
    body = f"class Mine(Repair):\n    card = card()\n{MAPS}"
    file = plugin(tmp_path, body)
    load_plugins([file])
    planned = loaded_code()
    require_code(planned)
    plugin(tmp_path, body.replace("return x", "return x * 2"))
    load_plugins([file])
    with pytest.raises(UsageError, match=r"'mine' of plugin .*mine\.py was edited after the run began"):
        require_code(planned)


@pytest.mark.parametrize(
    ("loaded", "words"),
    [
        (
            ImportError("no numpy"),
            r"repair 'theirs' of package their-package: ImportError: no numpy.* - mend the package",
        ),
        (object, r"carries no card of a repair - set `card = RepairCard"),
        ("task", r"carries no card of a repair"),
        ("acts_on", r"repair 'theirs' of package their-package: acts_on is empty"),
        ("", ""),
    ],
)
def test_a_package_registers_a_class_as_a_file_does_and_a_broken_one_is_one_line(
    monkeypatch: pytest.MonkeyPatch, loaded: Any, words: str
) -> None:
    from dataclasses import replace

    from vitbench.repairs.unit import Unit

    class Theirs(Unit):
        card = TASKS.get("depth") if loaded == "task" else replace(Unit.card, name="theirs", entry=None)  # type: ignore[assignment]

    if loaded == "acts_on":
        Theirs.card = replace(Theirs.card, acts_on=())

    class Point:
        name, value, dist = "theirs", "theirs:Theirs", type("Dist", (), {"name": "their-package"})

        @staticmethod
        def load() -> Any:
            if isinstance(loaded, Exception):
                raise loaded
            return Theirs if isinstance(loaded, str) else loaded

    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [Point] if group == "vitbench.repairs" else [])
    repairs: Registry[Any] = Registry("repair", list(REPAIRS), require=require_sound)
    if words:
        with pytest.raises(UsageError, match=words):
            repairs.names()
    else:
        assert repairs.load("theirs") is Theirs
