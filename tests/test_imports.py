"""Imports run strictly downwards, and what must stay light stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vitbench

PACKAGE = Path(vitbench.__file__).parent
LAYERS = (
    ("cli", "api", "__init__"),
    ("lab",),
    ("reports",),
    ("inspection",),
    ("engine",),
    ("plugins", "own_modules", "plan", "sweeps", "jobs", "choices", "suite"),
    ("tasks",),
    ("repairs",),
    ("backbones",),
    ("data",),
    ("heads",),
    ("metrics",),
    ("tokens",),
    ("records",),
    ("catalogue",),
    ("registry", "selection", "identity", "errors", "paths"),
)
RANK = {name: i for i, layer in enumerate(LAYERS) for name in layer}


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vitbench"):
            found = node.module.split(".")
            names |= {found[1]} if len(found) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("vitbench.")}
    return {name for name in names if name in RANK}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    above = {name for name in imported(path) if RANK[name] < RANK[layer_of(path)] and name != "__init__"}
    assert not above, f"{path.relative_to(PACKAGE)} imports {sorted(above)} from above"


def test_every_module_has_its_place_in_the_layers() -> None:
    assert {layer_of(p) for p in PACKAGE.rglob("*.py")} <= RANK.keys()


HEAVY = "torch", "pandas", "datasets", "timm", "sklearn", "matplotlib"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list", "backbones"],
        ["list", "repairs", "--json"],
        ["list", "suites"],
        ["show", "none"],
        ["plan", "--all"],
    ],
    ids=" ".join,
)
def test_verbs_that_compute_nothing_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from vitbench.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_importing_vitbench_is_light() -> None:
    code = "import sys, vitbench; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    long = {
        str(p.relative_to(PACKAGE)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 420
    }
    assert not long
