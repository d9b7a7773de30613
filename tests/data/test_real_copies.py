"""What copies of released data sets really hold: encodings, extra files and folders that the miniatures do not show."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.data.conftest import Install
from vitbench.catalogue import DATASETS
from vitbench.catalogue.dataset_cards import RELEASED
from vitbench.data import layout
from vitbench.data.load import describe_dataset, describe_split, load
from vitbench.data.subset import Described
from vitbench.errors import DataError, UnavailableError

# -- NAVI --------------------------------------------------------------------------------------------------------------


def _as_the_authors_decode(path: Path) -> np.ndarray:
    """Metres: google/navi, data_util.py, decode_depth with its scale factor of 10, which gives millimetres."""
    disparity = np.asarray(Image.open(path)).astype(np.float32) / ((2**16 - 1) * 10.0)
    with np.errstate(divide="ignore"):
        return np.where(disparity > 0, 1 / disparity, 0) / 1000


def test_depth_of_navi_is_stored_as_its_inverse_and_zero_is_no_object(install: Install, tmp_path: Path) -> None:
    install("navi")
    file = tmp_path / "navi_v1/a_toy/wild_set/depth/001.png"
    values = np.asarray(Image.open(file)).copy()
    values[:20] = 0
    values[20] = 655  # just over a metre
    Image.fromarray(values).save(file)
    depth = {s["key"]: s["depth"] for s in load("navi", "wild", targets=("depth",), root=tmp_path)}[
        "a_toy/wild_set/001"
    ]
    np.testing.assert_allclose(depth, _as_the_authors_decode(file), rtol=1e-6)
    assert (depth[:20] == 0).all()
    assert abs(depth[20, 0] - 1.00053) < 1e-4


def test_images_of_navi_are_turned_as_exif_says(install: Install, tmp_path: Path) -> None:
    mini = install("navi")
    place = tmp_path / "navi_v1/a_toy/wild_set"
    with Image.open(place / "images/001.jpg") as stored:
        assert stored.getexif()[0x0112] == 6
        upright = np.asarray(ImageOps.exif_transpose(stored))
    sample = {s["key"]: s for s in load("navi", "wild", targets=("depth",), root=tmp_path)}["a_toy/wild_set/001"]
    np.testing.assert_array_equal(sample["image"], upright)
    assert np.abs(upright.astype(int) - mini.scenes["a_toy/wild_set/001"].image).mean() < 8


def test_a_pose_of_navi_says_what_the_task_of_views_reads(install: Install, tmp_path: Path) -> None:
    install("navi")
    file = tmp_path / "navi_v1/a_toy/wild_set/annotations.json"
    content = json.loads(file.read_text())
    content[1]["image_size"] = [3024, 4032]  # height, width
    file.write_text(json.dumps(content))
    sample = load("navi", "wild", targets=("depth", "pose"), root=tmp_path)[1]
    assert sample["pose_hw"] == [3024, 4032]
    assert sample["pose"]["focal_px"] == 3000.0
    assert sample["pose"]["translation_m"] == [0, 0.1, 1.5]


def test_videos_of_navis_second_version_are_left_out(install: Install, tmp_path: Path) -> None:
    install("navi")
    assert (tmp_path / "navi_v1/a_toy/video-00-canon/annotations.json").is_file()
    assert all("/multiview" in key for key in load("navi", "train", targets=("depth",), root=tmp_path)["key"])


# -- what archives and desktops leave behind ---------------------------------------------------------------------------

NAMES = [card.name for card in RELEASED]


def _littered(place: Path) -> None:
    """Every folder gets what desktops and archives of a Mac make, and notes; those with folders in them an empty one."""
    for folder in [place, *(p for p in place.rglob("*") if p.is_dir())]:
        if any(p.is_dir() for p in folder.iterdir()):
            (folder / "devkit").mkdir(exist_ok=True)
        first = next((p.name for p in sorted(folder.iterdir()) if p.is_file()), "x.jpg")
        for name in (".DS_Store", "Thumbs.db", "desktop.ini", f"._{first}", "README.txt", "LICENSE"):
            (folder / name).write_bytes(b"\x00\x05\x16\x07 no data")
        for extra in (".ipynb_checkpoints", "__MACOSX"):
            (folder / extra).mkdir()
            (folder / extra / first).write_bytes(b"\x00\x05\x16\x07")


def _as_windows_writes(file: Path) -> None:
    """A byte-order mark, Windows line ends, and blank lines at the end."""
    if b"\r\n" not in (content := file.read_bytes()):
        file.write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n") + b"\r\n\r\n")


def _described(name: str, root: Path) -> dict[tuple[str, str], Described]:
    card, found = DATASETS.get(name), {}
    for split in card.splits:
        for target in card.targets:
            with contextlib.suppress(UnavailableError):
                found[split, target] = layout.describe_split(DATASETS.load(name), card, split, (target,), None, 0, root)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_what_archives_and_desktops_leave_beside_the_files_changes_nothing(
    name: str, install: Install, tmp_path: Path
) -> None:
    install(name)
    before = _described(name, tmp_path)
    assert before
    release = DATASETS.get(name).release
    assert release is not None
    _littered(tmp_path / release.folder)
    for file in (
        p for p in tmp_path.rglob("*") if p.suffix in (".txt", ".csv", ".json", ".xml") and p.name != "README.txt"
    ):
        _as_windows_writes(file)
    assert _described(name, tmp_path) == before


# -- VOC and SBD -------------------------------------------------------------------------------------------------------

SEGMENTATION_LISTS = Path("VOCdevkit/VOC2012/ImageSets/Segmentation")


@pytest.mark.parametrize("lists", ["aug and trainaug", "trainaug", "trainaug with paths"])
def test_masks_that_sbd_does_not_have_are_vocs_own(lists: str, install: Install, tmp_path: Path) -> None:
    """Of VOC's 1,464 train images many are not in SBD, so that converters that list all 10,582 make fewer masks."""
    mini = install("voc2012_aug")
    place = tmp_path / SEGMENTATION_LISTS
    if lists != "aug and trainaug":
        (place / "aug.txt").unlink()
    names = (place / "trainaug.txt").read_text().split()
    if lists == "trainaug with paths":
        pairs = (f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png" for n in names)
        (place / "trainaug.txt").write_text("\n".join(pairs))
    samples = load("voc2012_aug", "train", targets=("segmentation",), root=tmp_path)
    assert samples["key"] == sorted(names), "in one order, whatever that of the list"
    for sample in samples:
        np.testing.assert_array_equal(sample["segmentation"], mini.scenes[sample["key"]].segmentation)
    own = (place / "train.txt").read_text().split()
    assert not any((tmp_path / f"VOCdevkit/VOC2012/SegmentationClassAug/{name}.png").exists() for name in own)


# -- folders of classes ------------------------------------------------------------------------------------------------


def test_an_empty_folder_among_the_classes_moves_no_label(install: Install, tmp_path: Path) -> None:
    install("imagenet1k")
    before = load("imagenet1k", "val", targets=("label",), root=tmp_path)["label"]
    (tmp_path / "imagenet/val/New folder").mkdir()
    assert load("imagenet1k", "val", targets=("label",), root=tmp_path)["label"] == before


def test_images_of_imagenet_as_its_archive_has_them_are_told_to_be_sorted(install: Install, tmp_path: Path) -> None:
    """ILSVRC2012_img_val.tar holds 50,000 files and no folder."""
    install("imagenet1k")
    val = tmp_path / "imagenet/val"
    for image in [*val.rglob("*.jpg")]:
        image.rename(val / f"{image.parent.name}{image.name}")
    with pytest.raises(UnavailableError, match=r"12 images but no folders of classes.*into the folder of its class"):
        load("imagenet1k", "val", root=tmp_path)


# -- links, files in place of folders, folders of folders --------------------------------------------------------------

ADE = Path("ADEChallengeData2016")


def _said(name: str, root: Path, target: str = "segmentation") -> str:
    with pytest.raises(UnavailableError) as found:
        describe_split(name, "val", targets=(target,), root=root)
    assert "\n" not in str(found.value)
    return str(found.value)


def _annexed(place: Path, store: Path) -> None:
    """Every file a link into a store, as git-annex keeps them; the store is not here."""
    for file in [p for p in place.rglob("*") if p.is_file()]:
        file.unlink()
        file.symlink_to(store / file.name)


@pytest.mark.parametrize(
    "name, target", [("ade20k", "segmentation"), ("voc2012", "segmentation"), ("imagenet1k", "label"), ("coco20k", "boxes"),
                     ("spair71k", "keypoints")]
)  # fmt: skip
def test_links_that_lead_nowhere_are_told_from_files_that_are_missing(
    name: str, target: str, install: Install, tmp_path: Path
) -> None:
    install(name)
    release = DATASETS.get(name).release
    assert release is not None
    _annexed(tmp_path / release.folder, tmp_path / ".git/annex/objects")
    text = _said(name, tmp_path, target)
    assert re.search(r"links? (that )?leads? nowhere", text)
    assert "fetch what it leads to" in text
    assert "unpack" not in text


def test_files_that_are_links_are_read_like_files(install: Install, tmp_path: Path) -> None:
    install("ade20k")
    before = describe_split("ade20k", "val", targets=("segmentation",), root=tmp_path)
    store = tmp_path / "store"
    store.mkdir()
    for file in [p for p in (tmp_path / ADE).rglob("*") if p.is_file()]:
        file.rename(store / file.name)
        file.symlink_to(store / file.name)
    assert describe_split("ade20k", "val", targets=("segmentation",), root=tmp_path) == before


@pytest.mark.parametrize("what", ["file", "link"])
def test_what_lies_in_place_of_a_folder_is_named(what: str, install: Install, tmp_path: Path) -> None:
    install("ade20k")
    for place in (tmp_path / ADE / "images/validation", tmp_path / ADE):
        shutil.rmtree(place)
        place.touch() if what == "file" else place.symlink_to(tmp_path / "unplugged")
        text = _said("ade20k", tmp_path)
        assert f"{place} is a {'file' if what == 'file' else 'link that leads nowhere'}" in text
        place.unlink()
        place.mkdir()


def test_a_folder_in_a_folder_of_its_own_name_is_entered(install: Install, tmp_path: Path) -> None:
    install("ade20k")
    before = describe_split("ade20k", "val", targets=("segmentation",), root=tmp_path)
    (tmp_path / ADE).rename(tmp_path / "moved")
    (tmp_path / ADE).mkdir()
    (tmp_path / "moved").rename(tmp_path / ADE / ADE)
    (tmp_path / ADE / "ADEChallengeData2016.zip").touch()
    assert describe_split("ade20k", "val", targets=("segmentation",), root=tmp_path) == before
    (tmp_path / ADE / "notes.md").touch()
    assert f"move what is in {tmp_path / ADE / ADE} one folder up" in _said("ade20k", tmp_path)


def test_attributes_of_a_mac_are_no_split_of_a_folder_of_ones_own(tmp_path: Path) -> None:
    for place in ("train", "__MACOSX"):
        (tmp_path / place / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "train/images/a.png")
    (tmp_path / "train/masks").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "train/masks/a.png")
    (tmp_path / "__MACOSX/images/._a.png").touch()
    card = describe_dataset(f"folder:{tmp_path}")
    assert list(card.splits) == ["train"]
    assert card.targets == ("segmentation",)


# -- archives in folders of their own ----------------------------------------------------------------------------------


def test_archives_of_cityscapes_may_lie_apart(install: Install, tmp_path: Path) -> None:
    install("cityscapes")
    before = _described("cityscapes", tmp_path)
    for kind in ("leftImg8bit", "gtFine"):
        (tmp_path / f"cityscapes/{kind}_trainvaltest").mkdir()
        (tmp_path / "cityscapes" / kind).rename(tmp_path / f"cityscapes/{kind}_trainvaltest/{kind}")
    assert _described("cityscapes", tmp_path) == before


def test_images_of_landmarks_may_lie_in_a_folder_per_landmark(install: Install, tmp_path: Path) -> None:
    install("rparis6k")
    before = _described("rparis6k", tmp_path)
    for i, file in enumerate(sorted((tmp_path / "rparis6k/jpg").iterdir())):
        place = tmp_path / "rparis6k/jpg/paris" / ("defense", "louvre")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        file.rename(place / file.name)
    assert _described("rparis6k", tmp_path) == before
    assert load("rparis6k", "query", root=tmp_path)[0]["image"].shape == (56, 32, 3)


def test_labels_of_the_test_cars_may_lie_in_the_devkit(install: Install, tmp_path: Path) -> None:
    install("cars")
    before = _described("cars", tmp_path)
    place = tmp_path / "stanford_cars"
    (place / "cars_test_annos_withlabels.mat").rename(place / "devkit/cars_test_annos_withlabels.mat")
    assert _described("cars", tmp_path) == before


def test_a_folder_of_scenes_that_lies_elsewhere_is_named(install: Install, tmp_path: Path) -> None:
    """sync.zip of BTS unpacks into sync/; the lists begin below it."""
    install("nyu_depth_v2")
    (tmp_path / "nyu/sync").mkdir()
    (tmp_path / "nyu/test_room").rename(tmp_path / "nyu/sync/test_room")
    text = _said("nyu_depth_v2", tmp_path, "depth")
    assert f"there is no {tmp_path / 'nyu/test_room'}" in text
    assert "lie elsewhere" in text


def test_frames_of_tracks_may_be_wrapped(install: Install, tmp_path: Path) -> None:
    install("bdd100k_tracking")
    before = _described("bdd100k_tracking", tmp_path)
    for file in (tmp_path / "bdd100k/labels").rglob("*.json"):
        file.write_text(json.dumps({"frames": json.loads(file.read_text()), "config": None}))
    assert _described("bdd100k_tracking", tmp_path) == before


def test_sizes_are_asked_for_of_the_files_that_are_used_alone(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may hold a million files of somebody else's."""
    install("roxford5k")
    for i in range(50):
        (tmp_path / f"roxford5k/jpg/u{i:03d}.jpg").touch()
    asked: list[str] = []

    def size(path: object, **options: object) -> os.stat_result:
        asked.append(str(path))
        return stat(path, **options)  # type: ignore[arg-type]

    stat = os.stat
    monkeypatch.setattr("vitbench.data.tree.os.stat", size)
    assert describe_split("roxford5k", "query", targets=("relevance",), root=tmp_path).images == 2
    monkeypatch.undo()
    assert any("query_000000.jpg" in path for path in asked)
    assert not any("u0" in Path(path).name for path in asked)


@pytest.mark.parametrize("where", ["vitbench.data.layout._entered", "vitbench.data.tree.Tree.size"])
def test_what_the_system_refuses_is_one_line_with_the_file(
    where: str, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("ade20k")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/data/file")

    monkeypatch.setattr(where, refuse)
    assert "cannot read /data/file: Permission denied - check its permissions" in _said("ade20k", tmp_path)


def test_an_image_that_may_not_be_read_is_not_to_be_removed(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("ade20k")
    samples = load("ade20k", "val", root=tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("vitbench.data.images.Image.open", refuse)
    with pytest.raises(DataError, match=r"ADE_val_00000000\.jpg: Permission denied - check its permissions"):
        samples[0]
