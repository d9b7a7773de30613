"""Released data that are not as they should be: one line with the file and what to do."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import layouts
from tests.data.conftest import Install
from vitbench.catalogue import DATASETS
from vitbench.data.load import describe_split, load
from vitbench.errors import DataError, UnavailableError, UsageError

ADE = Path("ADEChallengeData2016")


def message(name: str, root: Path, targets: tuple[str, ...] = ("segmentation",), split: str = "val") -> str:
    """What is said of a data set that cannot be used; always one line."""
    with pytest.raises(UnavailableError) as found:
        describe_split(name, split, targets=targets, root=root)
    text = str(found.value)
    assert "\n" not in text
    return text


def first(folder: Path) -> Path:
    return sorted(folder.iterdir())[0]


def test_a_half_unpacked_archive_is_told_by_its_count(install: Install, tmp_path: Path) -> None:
    install("ade20k")
    image = first(tmp_path / ADE / "images/validation")
    image.unlink()
    assert "3 of 4 images" in message("ade20k", tmp_path)


def test_half_of_the_pairs_is_told(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("spair71k")
    card = replace(DATASETS.get("spair71k"), options={"pairs": {"test": 12_234}})
    monkeypatch.setitem(DATASETS._cards, "spair71k", card)
    assert "holds 4 of 12,234 pairs" in message("spair71k", tmp_path, ("keypoints",))


def test_a_missing_folder_is_named(install: Install, tmp_path: Path) -> None:
    install("ade20k")
    (tmp_path / ADE / "annotations").rename(tmp_path / "elsewhere")
    assert "has no annotations/validation" in message("ade20k", tmp_path)


def test_missing_masks_are_counted_and_the_first_is_named(install: Install, tmp_path: Path) -> None:
    install("voc2012")
    mask = next((tmp_path / "VOCdevkit/VOC2012/SegmentationClass").glob("*_val_*2.png"))
    mask.unlink()
    text = message("voc2012", tmp_path)
    assert "1 of 4 segmentation files" in text
    assert mask.name in text


def test_another_case_of_a_name_is_told(install: Install, tmp_path: Path) -> None:
    install("voc2012")
    place = tmp_path / "VOCdevkit/VOC2012"
    (place / "ImageSets").rename(place / "Imagesets")
    assert "has 'Imagesets', not 'ImageSets'" in message("voc2012", tmp_path)


def test_another_case_of_a_files_name_is_told(install: Install, tmp_path: Path) -> None:
    install("voc2012")
    mask = next((tmp_path / "VOCdevkit/VOC2012/SegmentationClass").glob("*_val_*2.png"))
    mask.rename(mask.with_suffix(".PNG"))
    text = message("voc2012", tmp_path)
    assert f"first {mask} (there is {mask.with_suffix('.PNG').name!r})" in text
    assert "rename it" in text


def test_two_copies_of_a_data_set_are_both_named(install: Install, tmp_path: Path) -> None:
    install("voc2012")
    (tmp_path / "VOC2012/VOCdevkit/VOC2012").mkdir(parents=True)
    text = message("voc2012", tmp_path)
    assert str(tmp_path / "VOC2012/VOCdevkit/VOC2012") in text
    assert str(tmp_path / "VOCdevkit/VOC2012") in text


def test_one_copy_under_two_names_is_fine(install: Install, tmp_path: Path) -> None:
    install("coco_stuff")
    (tmp_path / "COCO").symlink_to(tmp_path / "coco")
    assert describe_split("coco_stuff", "val", targets=("segmentation",), root=tmp_path)[0] == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_an_unreadable_folder_is_named(install: Install, tmp_path: Path) -> None:
    install("ade20k")
    folder = tmp_path / ADE / "images/validation"
    folder.chmod(0)
    try:
        assert f"cannot list {folder}" in message("ade20k", tmp_path)
    finally:
        folder.chmod(0o755)


def test_a_listing_that_the_system_refuses_is_named(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("ade20k")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("vitbench.data.tree.os.scandir", refuse)
    assert "cannot list" in message("ade20k", tmp_path)
    assert "Permission denied" in message("ade20k", tmp_path)


@pytest.mark.parametrize("content", ["{", '{"images": []}', "[1, 2]"])
def test_broken_annotations_are_named(content: str, install: Install, tmp_path: Path) -> None:
    install("coco20k")
    (tmp_path / "coco/annotations/instances_train2014.json").write_text(content)
    assert str(tmp_path / "coco") in message("coco20k", tmp_path, ("boxes",))


def test_a_broken_box_file_of_voc_is_named(install: Install, tmp_path: Path) -> None:
    install("voc2007")
    file = first(tmp_path / "VOCdevkit/VOC2007/Annotations")
    file.write_text("<annotation><object>")
    assert file.name in message("voc2007", tmp_path, ("boxes",), "test")


@pytest.mark.parametrize("keep", [0, 40, 300])
def test_a_corrupt_image_is_named_when_it_is_read(keep: int, install: Install, tmp_path: Path) -> None:
    install("ade20k")
    image = first(tmp_path / ADE / "images/validation")
    image.write_bytes(image.read_bytes()[:keep])
    samples = load("ade20k", "val", targets=("segmentation",), root=tmp_path)
    with pytest.raises(DataError, match=image.name):
        samples[0]
    assert samples[1]["image"].shape == (64, 64, 3)


def test_a_corrupt_mask_is_named_when_it_is_read(install: Install, tmp_path: Path) -> None:
    install("ade20k")
    mask = first(tmp_path / ADE / "annotations/validation")
    mask.write_bytes(mask.read_bytes()[:60])
    with pytest.raises(DataError, match=f"annotations/validation/{mask.name}"):
        load("ade20k", "val", targets=("segmentation",), root=tmp_path)[0]


def test_a_mask_of_another_shape_is_named(install: Install, tmp_path: Path) -> None:
    install("ade20k")
    mask = first(tmp_path / ADE / "annotations/validation")
    Image.fromarray(np.zeros((64, 32), np.uint8)).save(mask)
    with pytest.raises(DataError, match=f"{mask.name} is 32 x 64, its image 64 x 64"):
        load("ade20k", "val", targets=("segmentation",), root=tmp_path)[0]


def test_a_split_that_only_a_task_wants_makes_a_status_and_one_that_a_person_types_an_error(
    install: Install, tmp_path: Path
) -> None:
    install("ecssd")
    assert "no split 'train'" in message("ecssd", tmp_path, split="train")
    with pytest.raises(UsageError, match="no split 'training'"):
        load("ecssd", "training", root=tmp_path)


# -- the remembered index ----------------------------------------------------------------------------------------------


def test_a_remembered_index_lists_nothing_again(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("ade20k")
    before = describe_split("ade20k", "val", targets=("segmentation",), root=tmp_path)

    def refuse(path: Path) -> None:
        raise AssertionError("listed again")

    monkeypatch.setattr("vitbench.data.tree.os.scandir", refuse)
    assert describe_split("ade20k", "val", targets=("segmentation",), root=tmp_path) == before
    assert len(load("ade20k", "val", targets=("segmentation",), root=tmp_path)) == 4


def test_a_file_that_comes_or_goes_makes_the_index_new(install: Install, tmp_path: Path) -> None:
    install("ade20k")
    describe_split("ade20k", "val", root=tmp_path)
    layouts.jpeg(tmp_path / ADE / "images/validation/ADE_val_99999999.jpg", np.zeros((8, 8, 3)))
    with pytest.raises(UnavailableError, match=r"missing.*ADE_val_99999999\.png|5 of 4"):
        describe_split("ade20k", "val", root=tmp_path)


def test_a_damaged_index_is_made_again(install: Install, tmp_path: Path) -> None:
    install("ade20k")
    before = describe_split("ade20k", "val", root=tmp_path)
    for kept in (Path(os.environ["VITBENCH_CACHE"]) / "indexes").iterdir():
        kept.write_bytes(kept.read_bytes()[:100])
    assert describe_split("ade20k", "val", root=tmp_path) == before


def test_a_cache_that_cannot_be_written_only_costs_time(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("ade20k")
    (tmp_path / "file").touch()
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "file/below"))
    assert describe_split("ade20k", "val", root=tmp_path)[0] == 4
    assert load("ade20k", "val", root=tmp_path)[0]["image"].shape == (64, 64, 3)


# -- identity ----------------------------------------------------------------------------------------------------------


def test_the_digest_follows_files_and_annotations_but_not_the_place(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("voc2007")
    asked = {"targets": ("boxes",)}
    before = describe_split("voc2007", "val", root=tmp_path, **asked)[1]  # type: ignore[arg-type]
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "VOCdevkit").rename(moved / "VOCdevkit")
    assert describe_split("voc2007", "val", root=moved, **asked)[1] == before  # type: ignore[arg-type]
    file = sorted((moved / "VOCdevkit/VOC2007/Annotations").glob("*_trainval_*"))[0]
    file.write_text(file.read_text().replace("<xmax>", "<xmax>1", 1))
    assert describe_split("voc2007", "val", root=moved, **asked)[1] != before  # type: ignore[arg-type]


def test_a_stratified_subset_deals_classes_evenly_and_is_part_of_the_digest(install: Install, tmp_path: Path) -> None:
    install("imagenet1k")
    asked = {"targets": ("label",), "root": tmp_path}
    few = load("imagenet1k", "train", limit="stratified:6", **asked)  # type: ignore[arg-type]
    assert sorted(few.with_format(None)["label"]) == [0, 0, 1, 1, 2, 2]
    digests = {
        describe_split("imagenet1k", "train", limit=limit, seed=seed, **asked)[1]  # type: ignore[arg-type]
        for limit, seed in ((None, 0), (6, 0), ("stratified:6", 0), ("stratified:6", 1), ("stratified:7", 0))
    }
    assert len(digests) == 5
    assert describe_split("imagenet1k", "train", limit="stratified:99", **asked)[0] == 12  # type: ignore[arg-type]


def test_a_limit_keeps_whole_videos(install: Install, tmp_path: Path) -> None:
    install("davis2017")
    asked = {"targets": ("frames",), "root": tmp_path}
    for limit, expected in ((3, [0, 1, 2]), (5, [0, 1, 2]), (6, [0, 1, 2] * 2), (2, [0, 1])):
        frames = load("davis2017", "train", limit=limit, **asked).with_format(None)["frames"]  # type: ignore[arg-type]
        assert [f["index"] for f in frames] == expected


def test_without_labels_a_stratified_subset_deals_cities(install: Install, tmp_path: Path) -> None:
    install("cityscapes")
    few = load("cityscapes", "train", targets=("segmentation",), limit="stratified:2", root=tmp_path)
    assert [key.partition("/")[0] for key in few.with_format(None)["key"]] == ["aachen", "ulm"]


def test_what_a_pass_depends_on_is_the_images_whatever_targets_are_read(install: Install, tmp_path: Path) -> None:
    install("pascal_context")
    install("pascal_context59")
    found = [
        describe_split(name, "val", targets=targets, root=tmp_path)
        for name, targets in (("pascal_context", ("segmentation",)), ("pascal_context", ()), ("pascal_context59", ()))
    ]
    assert len({f.digest for f in found}) == 3
    assert len({f.pictures for f in found}) == 1
    again = describe_split("pascal_context", "val", targets=("segmentation",), root=tmp_path)
    assert again == found[0], "remembered"
    fewer = describe_split("pascal_context", "val", limit=2, root=tmp_path)
    train = describe_split("pascal_context", "train", root=tmp_path)
    image = first(tmp_path / "VOCdevkit/VOC2010/JPEGImages")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "VOCdevkit/VOC2010/JPEGImages" / image.name)
    for kept in (Path(os.environ["VITBENCH_CACHE"]) / "indexes").iterdir():
        kept.unlink()
    others = {describe_split("pascal_context", split, root=tmp_path).pictures for split in ("train", "val")}
    assert len({found[0].pictures, fewer.pictures, train.pictures} | others) == 4, "another choice, or another file"


def test_images_that_are_cut_to_their_targets_share_nothing(install: Install, tmp_path: Path) -> None:
    install("navi")
    assert describe_split("navi", "wild", targets=("depth",), root=tmp_path).pictures == ""


def test_a_query_that_is_cut_out_is_another_picture(install: Install, tmp_path: Path) -> None:
    install("roxford5k")
    before = describe_split("roxford5k", "query", root=tmp_path).pictures
    file = tmp_path / "roxford5k/gnd_roxford5k.pkl"
    truth = pickle.loads(file.read_bytes())
    truth["gnd"][0]["bbx"] = np.array([0.0, 0.0, 30.0, 30.0])
    file.write_bytes(pickle.dumps(truth, protocol=2))
    assert describe_split("roxford5k", "query", root=tmp_path).pictures not in ("", before)
