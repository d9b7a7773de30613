"""What the README says is what happens: its plug-in runs, its leaderboard is the accepted one.

`python -m tests.test_readme` writes the leaderboard of `results/` into the README.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vitbench.cli import main
from vitbench.records.index import load
from vitbench.reports.formats import to_text
from vitbench.reports.leaderboard import build

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
START, END = "<!-- leaderboard: written by tests/test_readme.py from results/ -->", "<!-- end of leaderboard -->"


def accepted_leaderboard() -> str:
    """The overview of the accepted records, as the terminal shows it."""
    return (
        f"{START}\n```\n{to_text(build(load(ROOT / 'results' / 'records', use_index=False)), tables=False)}```\n{END}"
    )


def test_the_leaderboard_in_the_readme_is_the_accepted_one() -> None:
    assert accepted_leaderboard() in README.read_text()


def test_the_plugin_in_the_readme_runs_to_the_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [plugin] = [b for b in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "RepairCard" in b]
    assert len(plugin.splitlines()) <= 25
    (tmp_path / "my_repair.py").write_text(plugin)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    axes = ["-r", "none,half_center", "-b", "patch_colour", "-t", "knn_segmentation", "-d", "scenes", "--limit", "4"]
    with pytest.raises(SystemExit) as stop:
        main(["run", "--plugin", "my_repair.py", *axes, "--workers", "0"])
    assert not stop.value.code
    assert "half_center" in capsys.readouterr().out


if __name__ == "__main__":
    text = README.read_text()
    README.write_text(text[: text.index(START)] + accepted_leaderboard() + text[text.index(END) + len(END) :])
