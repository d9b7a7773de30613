"""Which modules count as a plug-in's own, and that their code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitbench.errors import UsageError
from vitbench.own_modules import own_modules
from vitbench.paths import PACKAGE
from vitbench.plugins import load_plugins, loaded_code, require_code

PLUGIN = """
import numpy, vitbench.errors
from vitbench.catalogue.cards import RepairCard
from vitbench.catalogue.repairs import NoParams
from vitbench.repairs.base import Repair
import own_helper

class Mine(Repair):
    card = RepairCard("mine", None, NoParams(), "map", ("patch",), "a plug-in")

    def map_field(self, x, state, tokens, name):
        from own_package import late
        return late.stretched(x) * own_helper.BY
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "own_package").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    for name, text in {
        "plugins/mine.py": PLUGIN,
        "own_helper.py": "BY = 2\n",
        "own_package/__init__.py": "",
        "own_package/late.py": "from . import later\nfrom .later import k\ndef stretched(x): return x * k\n",
        "own_package/later.py": "import own_package.late\nk = 3\n",
        "own_package/unused.py": "k = 4\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_modules_of_the_project_are_found_through_each_other_and_inside_functions(project: Path) -> None:
    found = [str(path.relative_to(project)) for path in own_modules(project / "plugins" / "mine.py")]
    assert found == ["own_helper.py", "own_package/__init__.py", "own_package/late.py", "own_package/later.py"]


def test_without_a_project_around_it_only_its_own_folder_counts(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    assert own_modules(project / "plugins" / "mine.py") == []
    (project / "plugins" / "mine.py").rename(project / "mine.py")
    assert len(own_modules(project / "mine.py")) == 4


def test_a_project_inside_the_project_is_somebody_elses(project: Path) -> None:
    (project / "own_package" / ".git").mkdir()
    assert [path.name for path in own_modules(project / "plugins" / "mine.py")] == ["own_helper.py"]


def test_what_is_installed_and_vitbench_itself_are_never_ones_own() -> None:
    own = own_modules(PACKAGE.parent / "tests" / "test_own_modules.py")
    assert not [path for path in own if PACKAGE in path.parents or "site-packages" in path.parts]


def test_an_edited_module_is_another_plugin_and_its_comments_are_not(project: Path) -> None:
    file, digests = str(project / "plugins" / "mine.py"), []
    for text in ("BY = 2\n", "BY = 2  # why\n", "BY = 3\n"):
        (project / "own_helper.py").write_text(text)
        load_plugins([file])
        digests.append(loaded_code())
    assert digests[0] == digests[1] != digests[2]
    with pytest.raises(UsageError, match="edited after the run began"):
        require_code(digests[0])
