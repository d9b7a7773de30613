"""`nightly` as a user types it: the first night, a quiet one, and one that regressed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from junitparser import JUnitXml
from safetensors.torch import load_file, save_file

from vitbench.choices import Filters, choose
from vitbench.cli import main
from vitbench.paths import PACKAGE
from vitbench.records.schema import decode_draws, encode_draws
from vitbench.suite import load_suite

SUITE = """
name = "tiny"
[[select]]
backbones = ["patch_colour"]
repairs = ["none", "unit"]
tasks = ["linear_segmentation"]
datasets = ["scenes"]
[options.scenes]
limits = { train = 6, val = 6 }
"""


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return int(stop.value.code or 0)


def raise_baseline(folder: Path, by: float) -> None:
    """What was accepted was better: the night is then a regression."""
    for path in folder.rglob("*.json"):
        data = json.loads(path.read_text())
        if "headline" not in data:
            continue
        name = data["headline"]
        data["metrics"][name]["value"] += by
        data["draws"][name] = encode_draws((decode_draws(data["draws"][name]) + by).astype(np.float32))
        path.write_text(json.dumps(data))


def test_a_first_a_quiet_and_a_bad_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    Path("tiny.toml").write_text(SUITE)
    night = ("nightly", "--suite", "tiny.toml", "--workers", "0", "--fail-on", "regression,missing,failed")
    assert run(*night) == 0
    out = capsys.readouterr().out
    assert "2 new" in out
    assert "no accepted record of this suite in results" in out
    assert run("accept", "--reason", "the first night") == 0
    assert run(*night) == 0
    out = capsys.readouterr().out
    assert "no regression · 2 unchanged" in out
    assert "night 2 since" in out
    assert len(list(Path("results/history/tiny").glob("*.jsonl"))) == 2
    raise_baseline(Path("results/records"), 30.0)
    assert run(*night) == 4
    assert "REGRESSED (2)" in capsys.readouterr().out
    page = Path("nightly/nightly.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert json.loads(Path("nightly/nightly.json").read_text())["counts"] == {"regressed": 2}
    assert JUnitXml.fromstring(Path("nightly/nightly.xml").read_bytes()).failures == 2


def test_a_report_that_cannot_be_written_is_said_before_the_night_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(SUITE)
    Path("nightly").write_text("a file")
    assert run("nightly", "--suite", "tiny.toml", "--workers", "0") == 2
    assert "cannot write nightly" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_every_cell_of_the_nightly_suite_is_one_of_the_lab_suite() -> None:
    """Only then are the accepted records of the lab the baseline of every night."""
    nightly, lab = (
        {(c.backbone, c.repair, c.task.text, c.dataset, c.seed) for c in choose(name, Filters()).choices}
        for name in ("nightly", "lab")
    )
    assert nightly <= lab
    assert load_suite("nightly").options.items() <= load_suite("lab").options.items()


SERIES = """
name = "training"
[[select]]
backbones = ["lab_ssl@*"]
tasks = ["knn_segmentation"]
datasets = ["scenes"]
[options.scenes]
limits = { train = 10, val = 10 }
settings = { view = "resize", image_px = 64 }
"""


def save_checkpoint(step: int, noise: float) -> None:
    state = load_file(PACKAGE / "backbones" / "weights" / "lab_ssl.safetensors")
    made = torch.Generator().manual_seed(step)
    moved = {
        k: v + noise * v.std() * torch.randn(v.shape, generator=made) if v.dim() > 1 else v for k, v in state.items()
    }
    save_file(moved, f"step-{step}.safetensors")


def test_a_night_whose_new_checkpoint_is_worse_than_the_one_before_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("training.toml").write_text(SERIES)
    Path("vitbench.toml").write_text(
        'suite = "training.toml"\ncache = "cache"\n[weights]\n"lab_ssl@{step}" = "step-{step}.safetensors"\n'
    )
    save_checkpoint(100, 0.0)
    assert run("nightly", "--workers", "0") == 0
    assert run("accept", "--reason", "the first checkpoint") == 0
    save_checkpoint(200, 3.0)
    (first,) = Path("results/history/training").iterdir()
    first.write_text(first.read_text()[:-30])
    assert run("nightly", "--workers", "0") == 4
    out = capsys.readouterr().out
    assert "1 of 2 cells fail · 1 regressed, 1 unchanged" in out
    assert "against lab_ssl@100" in out
    assert f"warning: {first}, line 1 is truncated" in " ".join(out.split())
    assert "step 100 to step 200" in out
    assert "step-200.safetensors" in Path("nightly/nightly.html").read_text()
