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
    with pytest.raises(SystemExit) as stop:
        main(["check", "repair", "half_center", "--plugin", "my_repair.py"])
    assert not stop.value.code, capsys.readouterr().out


def test_the_task_and_the_data_set_in_the_readme_run_to_the_leaderboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    for name in ("my_task.py", "my_data.py"):
        [plugin] = [b for b in blocks if b.startswith(f'"""{name}')]
        (tmp_path / name).write_text(plugin)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    plugins = ["--plugin", "my_task.py", "--plugin", "my_data.py"]
    for kind, name in (("dataset", "stripes"), ("task", "smoothness")):
        with pytest.raises(SystemExit) as stop:
            main(["check", kind, name, *plugins])
        assert not stop.value.code, capsys.readouterr().out
    axes = ["-b", "patch_colour", "-r", "none,smooth3", "-t", "smoothness,knn_segmentation[image_px=128]"]
    with pytest.raises(SystemExit) as stop:
        main(["run", *plugins, *axes, "-d", "stripes", "--limit", "4", "--workers", "0"])
    assert not stop.value.code
    assert "4 cells: 4 ok" in capsys.readouterr().out


def test_the_edit_and_the_backbone_in_the_readme_work(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from timm.models.vision_transformer import VisionTransformer

    import vitbench
    from vitbench.backbones.edits import Edit
    from vitbench.catalogue import BACKBONES
    from vitbench.catalogue.cards import BackboneCard
    from vitbench.repairs.edit_contract import images
    from vitbench.tokens.types import TokenRequest

    def my_vit(path: str) -> VisionTransformer:
        assert path == "mine.pth"
        return VisionTransformer(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=2, num_classes=0)

    known = {"Edit": Edit, "BackboneCard": BackboneCard, "my_vit": my_vit, "vitbench": vitbench}
    for start in ("class Clip", "def mine"):
        [text] = [b for b in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if b.startswith(start)]
        exec(text, known)
    monkeypatch.setattr(BACKBONES, "_cards", dict(BACKBONES._cards))
    monkeypatch.setattr(BACKBONES, "_origin", dict(BACKBONES._origin))
    vitbench.register(known["mine"])
    from vitbench.catalogue.weights import WeightsState

    card = BACKBONES.get("mine")
    backbone = card.entry(card, WeightsState("ready", "file", "0" * 16, "mine.pth"))
    request = TokenRequest(("patch_raw",))
    plain, clipped = (
        one.tokens(images(0, 2, (32, 32)), request, ["a", "b"])["patch_raw"]
        for one in (backbone, backbone.edited(known["Clip"](1)))  # type: ignore[operator]
    )
    assert clipped.shape == plain.shape == (2, 2, 2, 24)
    assert torch.isfinite(clipped).all()


if __name__ == "__main__":
    text = README.read_text()
    README.write_text(text[: text.index(START)] + accepted_leaderboard() + text[text.index(END) + len(END) :])
