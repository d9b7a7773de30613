"""`vitbench data`: status, verify, fetch and preview as they are typed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import layouts
from tests.cli.conftest import Run
from tests.servers import Server, zipped
from vitbench.catalogue import DATASETS
from vitbench.catalogue.release import Download, Release


def test_status_says_what_is_here_and_how_to_get_the_rest(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layouts.install("ade20k", tmp_path / "data", monkeypatch)
    code, out, _ = run("data", "status")
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert "ready" in lines["ade20k"]
    assert "6 train, 4 val" in lines["ade20k"]
    assert "missing" in lines["cityscapes"]
    assert "register at www.cityscapes-dataset.com" in lines["cityscapes"]
    assert "DATA_ROOT/cityscapes" in lines["cityscapes"]
    assert "11 GB" in lines["cityscapes"]


def test_status_as_json_has_a_name_for_each(run: Run) -> None:
    code, out, _ = run("data", "status", "--json")
    assert code == 0
    assert {entry["name"] for entry in json.loads(out)} == {c.name for c in DATASETS if c.release}


@pytest.mark.parametrize("name", [*layouts.WRITERS])
def test_verify_finds_every_miniature_in_order(
    name: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layouts.install(name, tmp_path / "data", monkeypatch)
    code, out, err = run("data", "verify", name)
    assert code == 0, out + err
    assert "ready" in out


def test_verify_names_a_corrupt_file_and_a_wrong_checksum(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layouts.install("ade20k", tmp_path / "data", monkeypatch)
    mask = sorted((tmp_path / "data/ADEChallengeData2016/annotations/validation").iterdir())[0]
    mask.write_bytes(b"no image")
    archive = tmp_path / "data/downloads/ADEChallengeData2016.zip"
    archive.parent.mkdir()
    archive.write_bytes(b"half")
    code, out, _ = run("data", "verify")
    assert code == 1
    assert str(mask) in out
    assert f"{archive} has md5 {hashlib.md5(b'half').hexdigest()}" in out


def test_verify_of_what_is_missing_fails_if_it_was_named(run: Run) -> None:
    assert run("data", "verify", "ade20k")[0] == 1
    code, out, _ = run("data", "verify")
    assert code == 0
    assert "vitbench data status" in out


@pytest.fixture
def tiny(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    """A server that has ECSSD in miniature as one zip, and a card that says so."""
    mini = layouts.WRITERS["ecssd"](tmp_path / "source")
    files = [p for p in (tmp_path / "source").rglob("*") if p.is_file()]
    body = zipped({p.relative_to(tmp_path / "source").as_posix(): p.read_bytes() for p in files})
    server.files["ECSSD.zip"] = body
    download = Download(server.url("ECSSD.zip"), hashlib.md5(body).hexdigest())
    release = Release("ECSSD", "ECSSD.zip", downloads=(download,))
    card = replace(DATASETS.get("ecssd"), release=release, splits=mini.splits)
    monkeypatch.setitem(DATASETS._cards, "ecssd", card)
    return server


def test_fetch_leaves_a_data_set_that_is_ready(tiny: Server, run: Run) -> None:
    tiny.cut = 500
    code, _, err = run("data", "fetch", "ecssd")
    assert code == 1
    assert "the same command goes on from there" in err
    code, out, _ = run("data", "fetch", "ecssd")
    assert code == 0
    assert "ready" in out
    assert tiny.asked[1] == "bytes=500-"
    assert "already here" in run("data", "fetch", "ecssd")[1]


def test_what_needs_a_licence_step_is_not_fetched_but_explained(run: Run) -> None:
    code, _, err = run("data", "fetch", "imagenet1k")
    assert code == 1
    assert "register at image-net.org" in err


def test_fetch_needs_a_root(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VITBENCH_DATA")
    code, _, err = run("data", "fetch", "ade20k")
    assert code == 2
    assert "--data-root" in err


def test_the_data_root_may_stand_in_the_configuration(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VITBENCH_DATA")
    layouts.install("ade20k", tmp_path / "elsewhere", monkeypatch)
    assert "missing" in run("data", "status", "ade20k")[1]
    (tmp_path / "vitbench.toml").write_text('data_root = "elsewhere"\n')
    assert "ready" in run("data", "status", "ade20k")[1]


def test_an_unknown_data_set_is_answered_with_a_near_name(run: Run) -> None:
    code, _, err = run("data", "status", "ade20")
    assert code == 2
    assert "ade20k" in err


@pytest.mark.parametrize(
    "name", ["ade20k", "nyu_depth_v2", "voc2007", "spair71k", "imagenet1k", "davis2017", "rparis6k", "voc2007_classes"]
)
def test_preview_draws_targets_of_every_kind(
    name: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layouts.install(name, tmp_path / "data", monkeypatch)
    code, _, err = run("data", "preview", name, "--count", "2", "--out", "sheet.png")
    assert code == 0, err
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert np.asarray(sheet).std() > 20, "something is drawn"


def test_a_drawing_shows_boxes_where_they_are(tmp_path: Path) -> None:
    from vitbench.data.load import load
    from vitbench.data.preview import contact_sheet

    samples, card = load("scenes", "val", limit=1), DATASETS.get("scenes")
    plain = np.asarray(contact_sheet(samples, card, "", 1), int)
    drawn = np.asarray(contact_sheet(samples, card, "boxes", 1), int)
    rows, columns = np.nonzero((plain != drawn).any(-1))
    x0, y0, x1, y1 = (
        samples[0]["boxes"][:, 0].min(),
        samples[0]["boxes"][:, 1].min(),
        samples[0]["boxes"][:, 2].max(),
        samples[0]["boxes"][:, 3].max(),
    )
    scale, gap = 160 / 192, 6
    np.testing.assert_allclose(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1],
        np.array([x0, y0, x1, y1]) * scale + gap,
        atol=1.5,
    )


@pytest.mark.parametrize("name", ["scenes", "clips"])
def test_preview_of_what_is_rendered(name: str, run: Run, tmp_path: Path) -> None:
    code, out, err = run("data", "preview", name, "--count", "1", "--out", "sheet.png")
    assert code == 0, err
    assert "boxes" in out


def test_preview_of_a_folder(run: Run, tmp_path: Path) -> None:
    for i in range(2):
        layouts.jpeg(tmp_path / f"mine/val/images/{i}.jpg", layouts.scene(i).image)
        layouts.png(tmp_path / f"mine/val/masks/{i}.png", layouts.scene(i).segmentation)
    code, out, err = run("data", "preview", "folder:mine")
    assert code == 0, err
    assert "segmentation: 2 samples" in out


def test_preview_of_what_is_not_there_is_one_line(run: Run) -> None:
    code, _, err = run("data", "preview", "ade20k")
    assert code == 1
    assert err.count("\n") == 1
    assert "ADEChallengeData2016.zip" in err


@pytest.mark.parametrize(
    "target, value, said",
    [
        ("label", 1, "1 dog"),
        ("labels", [0, 1], "0 cat, 1 dog"),
        ("labels", [], ""),
        ("label", 2, "2"),
        ("label", 7, "7"),
    ],
)
def test_labels_are_named_once(target: str, value: object, said: str) -> None:
    from vitbench.data.preview import _caption

    card = replace(DATASETS.get("imagenet1k"), label_classes=("cat", "dog", "2"))
    assert _caption({target: value}, card, target) == said


def test_classes_of_voc_that_are_present_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitbench.data.load import describe_dataset

    layouts.install("voc2007_classes", tmp_path, monkeypatch)
    assert describe_dataset("voc2007_classes", tmp_path).label_classes[:2] == ("aeroplane", "bicycle")


def test_a_set_of_which_only_anothers_files_are_there_is_missing_not_damaged(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.install("coco20k", tmp_path / "data", monkeypatch)
    lines = {line.split()[0]: line.split()[1] for line in run("data", "status")[1].splitlines()}
    assert (lines["coco20k"], lines["coco_stuff"], lines["coco_things"]) == ("ready", "missing", "missing")
    code, out, _ = run("data", "verify")
    assert code == 0
    assert "coco_stuff" not in out


def test_two_copies_and_files_in_place_of_folders_are_told_by_status(run: Run, tmp_path: Path) -> None:
    for folder in ("VOC2012/VOCdevkit/VOC2012", "VOCdevkit/VOC2012"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    (tmp_path / "data/ADEChallengeData2016").touch()
    (tmp_path / "data/cityscapes").symlink_to(tmp_path / "unplugged")
    _, out, _ = run("data", "status")
    assert "voc2012 lies in two folders" in out
    assert f"{tmp_path / 'data/ADEChallengeData2016'} is a file, not a folder" in out
    assert f"{tmp_path / 'data/cityscapes'} is a link that leads nowhere" in out
    assert run("data", "verify")[0] == 1


@pytest.mark.parametrize("given", ["option", "variable", "file"])
def test_a_tilde_in_the_data_root_is_the_home_folder(
    given: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.install("ade20k", tmp_path / "home/my dätä", monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VITBENCH_DATA")
    monkeypatch.chdir(tmp_path)
    if given == "variable":
        monkeypatch.setenv("VITBENCH_DATA", "~/my dätä")
    if given == "file":
        (tmp_path / "vitbench.toml").write_text('data_root = "~/my dätä"\n', encoding="utf-8")
    code, out, _ = run("data", "status", "ade20k", *(["--data-root=~/my dätä"] if given == "option" else []))
    assert code == 0
    assert "ready" in out


def test_verify_tells_of_every_empty_file_not_of_the_few_it_decodes(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.install("ade20k", tmp_path / "data", monkeypatch)
    monkeypatch.setattr("vitbench.data.status.SAMPLED", 2)  # the first and the last
    images = sorted((tmp_path / "data/ADEChallengeData2016/images/training").iterdir())
    for image in images[2:4]:
        image.write_bytes(b"")
    code, out, _ = run("data", "verify", "ade20k")
    assert code == 1
    assert f"train: 2 files are empty, first {images[2]}" in out
    for image in images[2:4]:
        image.write_bytes(images[0].read_bytes())  # in place: the folder does not change
    assert run("data", "verify", "ade20k")[0] == 0
