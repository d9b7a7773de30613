"""Folders that are not as they should be: every verb that reads records says so in clear words and goes on if it can."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vitbench.cli import main
from vitbench.identity import Slot, cell_identity
from vitbench.records.inference import MetricValue
from vitbench.records.schema import Record
from vitbench.records.store import write

READERS = {
    "leaderboard": ("leaderboard", "--records", "runs"),
    "compare": ("compare", "good", "runs"),
    "export": ("export", "--records", "runs", "--out", "out.csv"),
    "accept": ("accept", "--records", "runs", "--reason", "why"),
}
GOES_ON = ("leaderboard", "compare", "export")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    put("good", "lab_ssl")


def put(root: str, backbone: str, value: float | None = 50.0) -> Path:
    slot = Slot(backbone, "none", "linear_segmentation@ridge", "scenes", 0)
    draws = None if value is None else (value + np.random.default_rng(0).normal(0, 1, 50)).astype(np.float32)
    metric = MetricValue(value, "%", True, None, None, 40, "" if value else "undefined on these units", draws, "ab")
    record = Record.ok(
        slot=slot, identity=cell_identity(slot, {}), components={}, headline="mIoU", metrics={"mIoU": metric},
        provenance={"utc": "2026-01-01T00:00:00Z"},
    )  # fmt: skip
    return write(Path(root), record)


def run(capsys: pytest.CaptureFixture[str], verb: str, *more: str) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([*READERS[verb], *more])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert err.count("\n") <= 1
    return int(stop.value.code or 0), out, err


@pytest.mark.parametrize("verb", READERS)
@pytest.mark.parametrize("there", [True, False], ids=["empty", "not there"])
def test_an_empty_folder_is_nothing_selected(verb: str, there: bool, capsys: pytest.CaptureFixture[str]) -> None:
    if there:
        Path("runs").mkdir()
    code, _, err = run(capsys, verb)
    assert code == 3
    assert "no records in runs" in err or "no measured records in runs" in err


@pytest.mark.parametrize("verb", READERS)
def test_one_record_is_enough(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    put("runs", "lab_ssl")
    code, out, err = run(capsys, verb)
    assert (code, err) == (0, "")
    assert out


@pytest.mark.parametrize("verb", READERS)
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[: len(text) // 2], "is truncated or not JSON"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 99'), "has record schema 99"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 0'), "can no longer be read"),
        (lambda text: '{"a": 1}', "is not a record of vitbench"),
        (lambda text: text.replace('"status": "ok"', '"status": "fine"'), "key 'status'"),
        (
            lambda text: text.replace('"headline": "mIoU"', '"headline": "top1"'),
            "headline 'top1' is not among the metrics",
        ),
        (lambda text: text.replace('"value": 50.0', '"value": "high"'), "key 'value'"),
    ],
    ids=["truncated", "newer schema", "schema too old", "other JSON", "unknown status", "no headline", "value of text"],
)
def test_a_record_that_cannot_be_read_is_named_beside_the_others(
    verb: str, damage: object, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put("runs", "lab_ssl")
    broken = put("runs", "lab_sup")
    assert callable(damage)
    broken.write_text(damage(broken.read_text()))
    code, out, err = run(capsys, verb)
    if verb not in GOES_ON:
        assert (code, words in err) == (2, True)
        return
    assert code == 0
    assert words in " ".join((out + err).split())
    assert broken.name in (out + err).replace("\n", "")


@pytest.mark.parametrize("verb", READERS)
def test_a_null_metric_is_no_number_and_no_crash(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    put("runs", "lab_ssl", None)
    put("runs", "lab_sup")
    code, out, _ = run(capsys, verb)
    assert code == 0
    if verb in ("leaderboard", "compare"):
        assert "undefined on these units" in out


@pytest.mark.parametrize("verb", ["leaderboard", "compare"])
def test_records_of_another_suite_are_said_to_be_none_of_this_one(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.toml").write_text(
        'name = "own"\n[[select]]\nbackbones = ["random_vit"]\ntasks = ["depth@ridge"]\ndatasets = ["scenes"]\n'
    )
    put("runs", "lab_ssl")
    code, _, err = run(capsys, verb, "--suite", "own.toml")
    assert code == 3
    assert "own.toml" in err or "in this selection" in err


def test_records_of_two_groups_merge_by_copying(capsys: pytest.CaptureFixture[str]) -> None:
    put("runs", "lab_ssl")
    put("theirs", "lab_sup", 60.0)
    shutil.copytree("theirs", "runs", dirs_exist_ok=True)
    code, out, _ = run(capsys, "leaderboard", "--format", "json")
    assert code == 0
    assert {r["backbone"] for t in json.loads(out)["tables"] for r in t["rows"]} == {"lab_ssl", "lab_sup"}
