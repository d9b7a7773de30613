"""Released data sets through the command line, in miniature: one task per kind of target, and what corrupt files do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests import layouts
from tests.cli.conftest import Run
from tests.processes import left


def cell(task: str, dataset: str, *more: str) -> list[str]:
    return ["run", "-b", "patch_colour", "-r", "none", "-t", task, "-d", dataset, "--workers", "0", *more]


def record(folder: Path) -> dict[str, Any]:
    [path] = folder.rglob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize(
    "task, dataset",
    [
        ("linear_segmentation[image_px=64]", "ade20k"),
        ("knn_segmentation[image_px=64]", "voc2012"),
        ("depth[image_px=64]", "nyu_depth_v2"),
        ("object_discovery", "voc2007"),
        ("knn_classification[image_px=64]", "imagenet1k"),
        ("linear_classification[image_px=64]", "cifar10"),
        ("multilabel_classification[image_px=64,c_steps=2]", "voc2007_classes"),
        ("object_discovery@lost[no_hard=true]", "voc2007"),
        ("correspondence[image_px=64]", "spair71k"),
        ("label_propagation[image_px=64]", "davis2017"),
        ("saliency", "ecssd"),
        ("attention_segmentation", "imagenet_segmentation"),
        ("retrieval[image_px=64]", "roxford5k"),
        ("instance_retrieval[image_px=64]", "bdd100k_tracking"),
        ("view_correspondence[image_px=64]", "navi"),
    ],
)
def test_a_task_of_every_kind_of_target_runs(
    task: str, dataset: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.install(dataset, tmp_path / "data", monkeypatch)
    needs_a_model = ("object_discovery", "saliency", "attention_segmentation")
    backbone = "lab_ssl" if task.startswith(needs_a_model) else "patch_colour"
    arguments = cell(task, dataset)
    arguments[2] = backbone
    code, _, err = run(*arguments)
    assert code == 0, err
    found = record(tmp_path / "runs")
    assert found["status"] == "ok"
    assert found["metrics"][found["headline"]]["value"] is not None


@pytest.mark.parametrize("no_hard", ["false", "true"])
def test_the_number_of_images_that_lost_scores_is_in_the_record(
    no_hard: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = layouts.install("voc2007", tmp_path / "data", monkeypatch)
    arguments = cell(f"object_discovery@lost[no_hard={no_hard}]", "voc2007")
    arguments[2] = "lab_ssl"
    assert run(*arguments)[0] == 0
    found = record(tmp_path / "runs")
    trainval = [key for key in mini.scenes if "_trainval_" in key]
    assert found["metrics"]["images"]["value"] == found["flags"]["images_with_boxes"] == len(trainval)
    assert (found["components"]["task"]["settings"].get("no_hard")) is (True if no_hard == "true" else None)


def test_classes_of_voc_give_a_map_with_an_interval_and_one_value_per_class(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.install("voc2007_classes", tmp_path / "data", monkeypatch)
    code, _, err = run(*cell("multilabel_classification[image_px=64,c_steps=2]", "voc2007_classes"))
    assert code == 0, err
    found = record(tmp_path / "runs")
    values = {name: metric["value"] for name, metric in found["metrics"].items()}
    shown = [name for name, value in values.items() if value is not None and name != "mAP"]
    assert shown == ["AP_aeroplane", "AP_bicycle", "AP_bird", "AP_boat"]
    assert values["mAP"] == pytest.approx(np.mean([values[name] for name in shown]))
    assert len(found["flags"]["classes_not_shown"]) == 16
    assert found["draws"]["mAP"]


def test_what_is_missing_is_said_once_with_the_instruction(run: Run, tmp_path: Path) -> None:
    code, _, err = run(*cell("linear_segmentation", "ade20k"))
    assert code == 3
    assert "ADEChallengeData2016.zip" in err
    assert record(tmp_path / "runs")["status"] == "unavailable"


def _corrupt(root: Path) -> list[str]:
    images = sorted((root / "ADEChallengeData2016/images/training").iterdir())[1:3]
    for image in images:
        image.write_bytes(image.read_bytes()[:200])
    return [str(image) for image in images]


def test_corrupt_images_make_a_failed_cell_that_lists_them(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.install("ade20k", tmp_path / "data", monkeypatch)
    broken = _corrupt(tmp_path / "data")
    code, _, _ = run(*cell("linear_segmentation[image_px=64]", "ade20k"))
    assert code == 1
    found = record(tmp_path / "runs")
    assert found["status"] == "failed"
    assert all(path in found["reason"] for path in broken)
    assert "2 of 6 images" in found["reason"]


def test_skip_corrupt_leaves_them_out_and_counts_them(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.install("ade20k", tmp_path / "data", monkeypatch)
    _corrupt(tmp_path / "data")
    code, _, err = run(*cell("linear_segmentation[image_px=64]", "ade20k", "--skip-corrupt"))
    assert code == 0, err
    found = record(tmp_path / "runs")
    assert found["flags"]["skipped_corrupt"] == {"train": 2, "val": 0}


def test_all_images_corrupt_is_a_failure_whatever_is_skipped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.install("ade20k", tmp_path / "data", monkeypatch)
    for image in (tmp_path / "data/ADEChallengeData2016/images/training").iterdir():
        image.write_bytes(b"")
    code, _, _ = run(*cell("linear_segmentation[image_px=64]", "ade20k", "--skip-corrupt"))
    assert code == 1
    assert record(tmp_path / "runs")["status"] == "failed"


def test_what_is_left_out_or_decoded_smaller_is_another_identity(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.install("imagenet1k", tmp_path / "data", monkeypatch)
    task = "knn_classification[image_px=64]"
    for more in ([], ["--subset", "stratified:6"], ["--skip-corrupt"], ["--limit", "6"], ["--draft"]):
        code, _, err = run(*cell(task, "imagenet1k", *more))
        assert code == 0, err
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 5


@pytest.mark.parametrize(
    "more", [["--subset", "six"], ["--subset", "stratified:0"], ["--subset", "stratified:6", "--limit", "6"]]
)
def test_a_subset_that_makes_no_sense_is_a_usage_error(more: list[str], run: Run) -> None:
    code, _, err = run(*cell("knn_classification", "imagenet1k", *more))
    assert code == 2
    assert "--subset" in err


def _own_folder(root: Path, split: str, count: int) -> None:
    for i in range(count):
        scene = layouts.scene(i)
        layouts.jpeg(root / split / "images" / f"{i}.jpg", scene.image)
        layouts.png(root / split / "masks" / f"{i}.png", scene.segmentation)
        layouts.png(root / split / "depth" / f"{i}.png", np.round(scene.depth * 1000).astype(np.uint16))


def test_workers_decode_in_processes_of_their_own_and_tasks_with_other_targets_share_the_pass(
    run: Run, tmp_path: Path
) -> None:
    _own_folder(tmp_path / "mine", "train", 6)
    _own_folder(tmp_path / "mine", "val", 4)
    tasks = "knn_segmentation[image_px=32],depth[image_px=32]"
    arguments = [*cell(tasks, "folder:mine")[:-1], "1", "--decoders", "1"]
    before = set(psutil.Process().children(recursive=True))
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "2 cells: 2 ok" in out
    assert "10 forwards" in out, "each image once, for both tasks"
    own = set(psutil.Process().children(recursive=True)) - before
    assert not [p for p in left(own, 0) if "resource_tracker" not in " ".join(p.cmdline())], "no process is left"

    def values(folder: str) -> dict[str, Any]:
        found = [json.loads(path.read_text()) for path in (tmp_path / folder).rglob("*.json")]
        return {r["identity"]: r["metrics"][r["headline"]]["value"] for r in found}

    by_processes = values("runs")
    code, _, err = run(*cell(tasks, "folder:mine"), "--decoders", "0", "--records", "again", "--cache", "other")
    assert code == 0, err
    assert values("again") == by_processes
