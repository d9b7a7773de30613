"""Bring-your-own folders: layout, splits, targets, and what is said when something is not right."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import layouts
from vitbench.data.folder import describe
from vitbench.data.load import describe_dataset, describe_split, load
from vitbench.errors import DataError, UnavailableError, UsageError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("VITBENCH_DATA", raising=False)


def _image(path: Path, hw: tuple[int, int] = (6, 8), value: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*hw, 3), value, np.uint8)).save(path)


def _mask(path: Path, values: list[int], hw: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values, np.uint8), hw)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits with every kind of target; image b has no mask, image c only crowd boxes."""
    for split in ("train", "val"):
        place = tmp_path / split
        for value, name in enumerate(("a.jpg", "b.PNG", "sub/c.jpeg"), start=10):
            _image(place / "images" / name, value=value)
        for stem in ("a", "sub/c"):
            _mask(place / "masks" / f"{stem}.png", [0, 3, 255])
        (place / "depth").mkdir()
        np.save(place / "depth" / "a.npy", np.full((6, 8), 2.5, np.float32))
        Image.fromarray(np.full((6, 8), 1250, np.uint16)).save(place / "depth" / "b.png")
        images = [
            {"id": i, "file_name": n, "width": 8, "height": 6} for i, n in enumerate(("a.jpg", "b.PNG", "sub/c.jpeg"))
        ]
        boxes = [
            (0, [1, 2, 3, 4], 0),
            (0, [0, 0, 2, 2], 0),
            (0, [0, 0, 8, 6], 1),
            (1, [0, 0, 8, 6], 0),
            (2, [0, 0, 1, 1], 1),
        ]
        annotations = [{"image_id": i, "bbox": b, "iscrowd": c} for i, b, c in boxes]
        (place / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations}))
        (place / "labels.csv").write_text("file,label\na.jpg,tree\nb.PNG,car\nsub/c.jpeg,tree\n")
    layouts.aged(tmp_path)
    return tmp_path


def test_a_folder_with_splits_is_described_by_what_lies_in_it(folder: Path) -> None:
    card = describe_dataset(f"folder:{folder}")
    assert card.name == f"folder:{folder}"
    assert dict(card.splits) == {"train": 3, "val": 3}
    assert card.targets == ("label", "segmentation", "depth", "boxes")
    assert card.label_classes == ("car", "tree")
    assert card.classes == ("class_0", "class_1", "class_2", "class_3")
    assert "4 with segmentation" in card.summary


def test_images_without_a_wanted_target_are_left_out_and_counted(folder: Path) -> None:
    name = f"folder:{folder}"
    assert load(name, "train")["key"][:] == ["train/a", "train/b", "train/sub/c"]
    assert describe_split(name, "train", targets=("segmentation",))[0] == 2
    assert load(name, "train", targets=("segmentation", "depth"))["key"][:] == ["train/a"]
    assert load(name, "val", targets=("boxes",)).with_format(None)["key"] == ["val/a", "val/b"]


def test_samples_are_decoded_on_access(folder: Path) -> None:
    sample = load(f"folder:{folder}", "train", targets=("segmentation", "depth", "boxes", "label"))[0]
    assert sample["image"].shape == (6, 8, 3)
    assert sample["image"].dtype == np.uint8
    assert set(np.unique(sample["segmentation"])) == {0, 3, 255}
    assert sample["depth"].dtype == np.float32
    assert float(sample["depth"].min()) == 2.5
    assert sample["boxes"].tolist() == [[1, 2, 4, 6], [0, 0, 2, 2]]
    assert sample["boxes"].dtype == np.float32
    assert sample["label"] == 1


def test_depth_png_is_read_in_metres(folder: Path) -> None:
    assert float(load(f"folder:{folder}", "val", targets=("depth",))[1]["depth"][0, 0]) == pytest.approx(1.25)


@pytest.mark.parametrize("layout", ["images", "."])
def test_without_split_folders_a_seed_deals_halves(layout: str, tmp_path: Path) -> None:
    for i in range(9):
        _image(tmp_path / layout / f"{i}.jpg")
    name = f"folder:{tmp_path}"
    train, val = (load(name, split, seed=1)["key"][:] for split in ("train", "val"))
    assert (len(train), len(val)) == (5, 4)
    assert sorted(train + val) == [str(i) for i in range(9)]
    assert train == sorted(train)
    assert load(name, "train", seed=1)["key"][:] == train
    assert load(name, "train", seed=2)["key"][:] != train
    assert describe_dataset(name).targets == ()


def test_a_limit_is_a_seeded_choice_in_order_of_names(tmp_path: Path) -> None:
    for i in range(40):
        _image(tmp_path / "train" / "images" / f"{i:02}.jpg")
    name = f"folder:{tmp_path}"
    few = load(name, "train", limit=6, seed=3)["key"][:]
    assert few == sorted(few)
    assert few != [f"train/{i:02}" for i in range(6)]
    assert set(few) < set(load(name, "train", limit=12, seed=3)["key"][:])
    assert describe_split(name, "train", limit=6, seed=3)[0] == 6


def test_the_digest_of_a_split_says_which_samples_and_which_bytes(folder: Path) -> None:
    def found(**options: object) -> str:
        return describe_split(f"folder:{folder}", "train", **options)[1]  # type: ignore[arg-type]

    before, with_masks = found(), found(targets=("segmentation",))
    assert len(before) == 16
    assert before == found()
    assert before != with_masks
    _mask(folder / "train" / "masks" / "a.png", list(range(48)))
    assert found() == before
    assert found(targets=("segmentation",)) != with_masks
    _image(folder / "train" / "images" / "d.jpg")
    assert found() != before


@pytest.mark.parametrize(
    ("text", "names"), [("sky\ntree\n", ("sky", "tree")), ("2 tree\n0 sky\n", ("sky", "class_1", "tree"))]
)
def test_classes_are_named_by_a_file(text: str, names: tuple[str, ...], folder: Path) -> None:
    (folder / "mask_classes.txt").write_text(text)
    assert describe(folder).classes == names


def test_numeric_labels_are_kept_as_they_are(folder: Path) -> None:
    for split in ("train", "val"):
        (folder / split / "labels.csv").write_text("file,label,wnid\na.jpg,4,n01\nsub/c.jpeg,2,n02\n")
    assert [s["label"] for s in load(f"folder:{folder}", "train", targets=("label",))] == [4, 2]
    assert describe(folder).label_classes == ("0", "1", "2", "3", "4")


def test_what_is_not_there_is_unavailable_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no folder .*nowhere.*lay it out"):
        describe_dataset("folder:nowhere")
    with pytest.raises(UnavailableError, match="no split 'test', it has train, val"):
        load(f"folder:{folder}", "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnavailableError, match="no images"):
        describe_dataset(f"folder:{tmp_path / 'empty'}")
    for path in (folder / "val" / "depth").iterdir():
        path.unlink()
    with pytest.raises(UnavailableError, match="no image of split 'val' has depth"):
        describe_split(f"folder:{folder}", "val", targets=("depth",))
    assert "depth" not in describe(folder).targets


def test_a_relative_path_is_looked_for_below_the_data_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_dataset(f"folder:{folder.name}", folder.parent).splits["train"] == 3
    monkeypatch.setenv("VITBENCH_DATA", str(folder.parent))
    assert describe_dataset(f"folder:{folder.name}").splits["train"] == 3


@pytest.mark.parametrize("name", ["folder", "folder:"])
def test_a_folder_without_a_path_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match="path"):
        describe_dataset(name)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("labels.csv", "name,class\na.jpg,1\n"),
        ("labels.csv", "file,label\na.jpg,\n"),
        ("boxes.json", "{"),
        ("boxes.json", '{"images": []}'),
        (
            "boxes.json",
            '{"images": [{"id": 1, "file_name": "z.jpg"}], "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}',
        ),
    ],
)
def test_broken_annotations_name_their_file(file: str, content: str, folder: Path) -> None:
    (folder / "val" / file).write_text(content)
    with pytest.raises(DataError, match=file):
        describe(folder)


def test_two_images_of_one_name_are_refused(folder: Path) -> None:
    _image(folder / "train" / "images" / "a.png")
    with pytest.raises(DataError, match="same name"):
        describe(folder)


def test_an_unreadable_image_and_a_mask_of_another_shape_are_named_on_access(folder: Path) -> None:
    data = load(f"folder:{folder}", "train", targets=("segmentation",))
    _mask(folder / "train" / "masks" / "a.png", [0], hw=(8, 6))
    with pytest.raises(DataError, match=r"masks/a\.png is 6 x 8"):
        data[0]
    (folder / "train" / "images" / "sub" / "c.jpeg").write_bytes(b"gone")
    with pytest.raises(DataError, match=r"c\.jpeg"):
        data[1]


def _rotated(folder: Path, stated: tuple[int, int]) -> str:
    exif = Image.Exif()
    exif[0x0112] = 6
    place = folder / "train"
    Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(place / "images" / "a.jpg", exif=exif)
    image = {"id": 0, "file_name": "a.jpg", "width": stated[0], "height": stated[1]}
    annotation = {"image_id": 0, "bbox": [0, 0, 5, 7]}
    (place / "boxes.json").write_text(json.dumps({"images": [image], "annotations": [annotation]}))
    os.utime(
        place / "boxes.json", stated
    )  # another time for another size: the file system's clock need not have ticked
    return f"folder:{folder}"


def test_boxes_of_a_rotated_image_are_taken_only_in_the_upright_frame(folder: Path) -> None:
    assert load(_rotated(folder, (6, 8)), "train", targets=("boxes",))[0]["boxes"].tolist() == [[0, 0, 5, 7]]
    with pytest.raises(DataError, match="rotated by EXIF"):
        load(_rotated(folder, (8, 6)), "train", targets=("boxes",))[0]


def test_boxes_for_another_size_are_refused(folder: Path) -> None:
    _image(folder / "train" / "images" / "a.jpg", hw=(12, 16))
    with pytest.raises(DataError, match="8 x 6"):
        load(f"folder:{folder}", "train", targets=("boxes",))[0]


def test_real_folders_are_described_and_decoded(shared: Path) -> None:
    coco = f"folder:{shared / 'data' / 'coco128'}"
    card = describe_dataset(coco)
    assert dict(card.splits) == {"train": 128, "val": 128}
    assert len(card.classes) == 27
    assert set(card.targets) == {"segmentation", "boxes"}
    sample = load(coco, "val", targets=("segmentation", "boxes"), limit=3)[0]
    assert sample["boxes"].shape[1] == 4
    room = f"folder:{shared / 'data' / 'livingroom'}"
    assert describe_dataset(room).targets == ("depth",)
    assert 0.3 < float(np.median(load(room, "val", targets=("depth",))[0]["depth"])) < 20
    assert describe_dataset(f"folder:{shared / 'data' / 'imagenet_samples'}").targets == ("label",)


def test_a_pass_over_fewer_images_is_another_one(folder: Path) -> None:
    name = f"folder:{folder}"
    every, masked = describe_split(name, "train"), describe_split(name, "train", targets=("segmentation",))
    assert every.images > masked.images
    assert every.pictures != masked.pictures, "images without a mask are left out"
