"""The same copy read by torchvision: a reader that shares no mistake with the writer of the miniatures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets as tv

from tests.data.conftest import Install
from vitbench.catalogue import DATASETS
from vitbench.catalogue.release import class_names
from vitbench.data.cityscapes import train_ids
from vitbench.data.load import describe_dataset, load

Labelled = Iterable[tuple[Any, int]]


def _folders(folder: str) -> Callable[[Path], Any]:
    return lambda root: tv.ImageFolder(str(root / folder))


# data set, split -> torchvision's reader, and how it names classes
CLASSES: dict[tuple[str, str], Callable[[Path], Any]] = {
    ("imagenet1k", "train"): _folders("imagenet/train"),
    ("imagenet1k", "val"): _folders("imagenet/val"),
    ("aircraft", "trainval"): lambda root: tv.FGVCAircraft(root, "trainval"),
    ("aircraft", "test"): lambda root: tv.FGVCAircraft(root, "test"),
    ("cars", "train"): lambda root: tv.StanfordCars(root, "train"),
    ("cars", "test"): lambda root: tv.StanfordCars(root, "test"),
    ("flowers", "train"): lambda root: [*tv.Flowers102(root, "train"), *tv.Flowers102(root, "val")],
    ("flowers", "test"): lambda root: tv.Flowers102(root, "test"),
    ("food101", "train"): lambda root: tv.Food101(root, "train"),
    ("food101", "test"): lambda root: tv.Food101(root, "test"),
    ("pets", "trainval"): lambda root: tv.OxfordIIITPet(root, "trainval"),
    ("pets", "test"): lambda root: tv.OxfordIIITPet(root, "test"),
}


def _alike(ours: Any, theirs: Labelled) -> None:
    """The same images with the same labels, in whatever order."""
    mine = sorted((sample["image"].tobytes(), sample["label"]) for sample in ours)
    other = sorted((np.asarray(image.convert("RGB")).tobytes(), int(label)) for image, label in theirs)
    assert mine == other


@pytest.mark.parametrize("name, split", CLASSES, ids=lambda value: str(value))
def test_images_and_labels_are_those_of_torchvision(
    name: str, split: str, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.flowers102.check_integrity", lambda *_: True)  # md5 of the whole release
    install(name)
    theirs = CLASSES[name, split](tmp_path)
    ours = load(name, split, targets=("label",), root=tmp_path)
    _alike(ours, theirs)


@pytest.mark.parametrize(
    "name, folder", [("eurosat", "eurosat/2750"), ("caltech101", "caltech101/101_ObjectCategories")]
)
def test_splits_that_are_dealt_hold_all_images_once_under_torchvisions_labels(
    name: str, folder: str, install: Install, tmp_path: Path
) -> None:
    install(name)
    ours = [sample for split in ("train", "test") for sample in load(name, split, targets=("label",), root=tmp_path)]
    _alike(ours, tv.ImageFolder(str(tmp_path / folder)))


def test_textures_are_those_of_torchvision_which_keeps_them_a_folder_deeper(install: Install, tmp_path: Path) -> None:
    install("dtd")
    (tmp_path / "dtd").rename(tmp_path / "moved")
    (tmp_path / "dtd").mkdir()
    (tmp_path / "moved").rename(tmp_path / "dtd/dtd")
    (tmp_path / "dtd/dtd-r1.0.1.tar.gz").touch()
    theirs = [pair for split in ("train", "val") for pair in tv.DTD(tmp_path, split)]
    _alike(load("dtd", "train", targets=("label",), root=tmp_path), theirs)
    _alike(load("dtd", "val", targets=("label",), root=tmp_path), tv.DTD(tmp_path, "test"))


def test_scenes_of_sun397_have_torchvisions_labels(install: Install, tmp_path: Path) -> None:
    install("sun397")
    ours = [s for split in ("train", "test") for s in load("sun397", split, targets=("label",), root=tmp_path)]
    _alike(ours, tv.SUN397(tmp_path))
    assert describe_dataset("sun397", tmp_path).label_classes[1][2:] == tv.SUN397(tmp_path).classes[1]


@pytest.mark.parametrize("name", ["aircraft", "cars", "pets", "food101"])
def test_classes_are_called_as_by_torchvision(name: str, install: Install, tmp_path: Path) -> None:
    install(name)
    ours, theirs = describe_dataset(name, tmp_path).label_classes, CLASSES[name, "test"](tmp_path).classes
    assert [n.replace("_", " ").lower() for n in ours] == [n.replace("_", " ").lower() for n in theirs]


def test_masks_of_voc_are_those_of_torchvision(install: Install, tmp_path: Path) -> None:
    install("voc2012")
    ours = load("voc2012", "val", targets=("segmentation",), root=tmp_path)
    for sample, (image, mask) in zip(ours, tv.VOCSegmentation(str(tmp_path), image_set="val"), strict=True):
        np.testing.assert_array_equal(sample["image"], np.asarray(image))
        np.testing.assert_array_equal(sample["segmentation"], np.asarray(mask))


def test_boxes_of_voc_are_those_of_torchvision(install: Install, tmp_path: Path) -> None:
    install("voc2007")
    ours = load("voc2007", "val", targets=("boxes",), root=tmp_path)
    theirs = tv.VOCDetection(str(tmp_path), year="2007", image_set="trainval")
    for sample, (_, said) in zip(ours, theirs, strict=True):
        objects = said["annotation"]["object"]
        corners = [[int(o["bndbox"][n]) for n in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
        np.testing.assert_array_equal(sample["boxes"], np.asarray(corners) - [1, 1, 0, 0])
        assert [class_names("voc_objects")[c] for c in sample["boxes_class"]] == [o["name"] for o in objects]


def test_label_ids_of_cityscapes_become_torchvisions_train_ids() -> None:
    theirs = {c.id: c.train_id for c in tv.Cityscapes.classes if c.id >= 0}
    expected = [train if train < 19 else 255 for _, train in sorted(theirs.items())]
    assert train_ids(np.arange(34, dtype=np.uint8)).tolist() == expected
    named = {c.train_id: c.name for c in tv.Cityscapes.classes if 0 <= c.train_id < 19}
    assert list(class_names("cityscapes")) == [named[i] for i in range(19)]


def test_frames_of_cityscapes_are_torchvisions(install: Install, tmp_path: Path) -> None:
    install("cityscapes")
    ours = load("cityscapes", "train", targets=("segmentation",), root=tmp_path)
    theirs = tv.Cityscapes(str(tmp_path / "cityscapes"), split="train", mode="fine", target_type="semantic")
    mine = sorted((s["image"].tobytes(), s["segmentation"].tobytes()) for s in ours)
    other = sorted((np.asarray(i).tobytes(), train_ids(np.asarray(ids)).tobytes()) for i, ids in theirs)
    assert mine == other


def _odd_images(place: Path) -> None:
    """As some of ImageNet's and Pets' are: PNG and GIF under a name of JPEG, CMYK, grey, turned by EXIF, progressive, alpha."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 40, 3), np.uint8)).resize((64, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(place / "n02105855_2933.JPEG", "PNG")
    image.convert("P", palette=Image.Palette.ADAPTIVE).save(place / "gif.JPEG", "GIF")
    image.convert("CMYK").save(place / "cmyk.JPEG")
    image.convert("L").save(place / "grey.JPEG")
    image.save(place / "turned.JPEG", exif=exif)
    image.save(place / "progressive.JPG", "JPEG", progressive=True)
    image.convert("LA").save(place / "grey_alpha.png")
    image.convert("1").save(place / "one_bit.PNG")
    alpha = image.convert("RGBA")
    alpha.putalpha(image.convert("L"))
    alpha.save(place / "alpha.jpg", "PNG")
    seen_through = image.convert("P", palette=Image.Palette.ADAPTIVE)
    seen_through.save(place / "palette.jpeg", "PNG", transparency=3)


def test_odd_images_are_decoded_as_torchvision_does(install: Install, tmp_path: Path) -> None:
    install("imagenet1k")
    _odd_images(tmp_path / "imagenet/val/class1")
    count = len(list((tmp_path / "imagenet/val").rglob("*.*")))
    card = DATASETS.get("imagenet1k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS._cards, "imagenet1k", replace(card, splits={"val": count}))
        ours = load("imagenet1k", "val", targets=("label",), root=tmp_path)
        _alike(ours, tv.ImageFolder(str(tmp_path / "imagenet/val")))
        smaller = load("imagenet1k", "val", targets=("label",), root=tmp_path, least_px=32)
        for sample, whole in zip(smaller, ours, strict=True):
            assert sample["image"].shape[2] == 3
            drafted = np.asarray(Image.fromarray(sample["image"]).resize((8, 8), Image.Resampling.BOX), int)
            assert (
                np.abs(
                    drafted - np.asarray(Image.fromarray(whole["image"]).resize((8, 8), Image.Resampling.BOX), int)
                ).mean()
                < 6
            )
