"""Data sets of the hub, as parquet files on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import layouts
from tests.data.conftest import Install
from vitbench.catalogue import DATASETS
from vitbench.data import hub_parquet
from vitbench.data.load import describe_dataset, describe_split, load
from vitbench.errors import DataError, UnavailableError

NAMES = ["ring", "box", "star"]


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-100 in miniature as the hub has it: two train files of two row groups, one test file."""
    import datasets

    datasets.disable_progress_bars()
    folder = tmp_path / "hub/uoft-cs--cifar100/cifar100"
    folder.mkdir(parents=True)
    features = datasets.Features({"img": datasets.Image(), "fine_label": datasets.ClassLabel(names=NAMES)})
    for n, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        images = [Image.fromarray(layouts.scene(6 * n + i).image) for i in range(6)]
        made = datasets.Dataset.from_dict({"img": images, "fine_label": [0, 1, 2] * 2}, features=features)
        made.to_parquet(folder / f"{name}.parquet", batch_size=4)
    card = DATASETS.get("cifar100")
    monkeypatch.setitem(DATASETS._cards, "cifar100", replace(card, splits={"train": 12, "test": 6}, label_file=""))
    return folder


def test_parquet_of_the_hub_is_read_where_the_folder_is_not_there(cifar100: Path, tmp_path: Path) -> None:
    samples = load("cifar100", "train", targets=("label",), root=tmp_path)
    assert len(samples) == 12
    assert samples.with_format(None)["label"] == [0, 1, 2] * 4
    for i in (0, 5, 6, 11):
        np.testing.assert_array_equal(samples[i]["image"], layouts.scene(i).image)
    assert describe_dataset("cifar100", tmp_path).label_classes == tuple(NAMES)
    assert len(load("cifar100", "val", targets=("label",), limit="stratified:3", root=tmp_path)) == 3


def test_the_released_folder_comes_first(cifar100: Path, tmp_path: Path) -> None:
    layouts.WRITERS["cifar100"](tmp_path)
    with pytest.raises(UnavailableError, match="cifar-100-binary holds 4 of 12"):
        describe_split("cifar100", "train", root=tmp_path)


def test_row_groups_are_read_once_when_read_in_order(
    cifar100: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_parquet._group.cache_clear()
    for _ in load("cifar100", "train", targets=("label",), root=tmp_path):
        pass
    assert hub_parquet._group.cache_info().misses == 4, "two files of two groups"


def _colours(mask: Path) -> Image.Image:
    with Image.open(mask) as stored:
        return stored.convert("RGB")


def test_masks_that_hold_the_palettes_colours_become_indices(install: Install, tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    mini = install("voc2012")
    place = tmp_path / "VOCdevkit/VOC2012"
    folder = tmp_path / "hub/nateraw--pascal-voc-2012/data"
    folder.mkdir(parents=True)
    keys = [key for key in mini.scenes if "_val_" in key]
    columns = {
        "image": [{"bytes": (place / f"JPEGImages/{key}.jpg").read_bytes(), "path": None} for key in keys],
        "mask": [_colours(place / f"SegmentationClass/{key}.png") for key in keys],
    }
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / "val-00000-of-00001.parquet")
    (tmp_path / "VOCdevkit").rename(tmp_path / "away")
    samples = load("voc2012", "val", targets=("segmentation",), root=tmp_path)
    for key, sample in zip(keys, samples, strict=True):
        np.testing.assert_array_equal(sample["segmentation"], mini.scenes[key].segmentation)
    with pytest.raises(UnavailableError, match="no split 'trainval'"):
        describe_split("voc2012", "val", targets=("boxes",), root=tmp_path)


def test_a_parquet_file_that_is_cut_short_is_named(cifar100: Path, tmp_path: Path) -> None:
    file = cifar100 / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UnavailableError, match=r"test-00000-of-00001\.parquet is not a whole parquet"):
        describe_split("cifar100", "val", targets=("label",), root=tmp_path)


def test_an_image_that_cannot_be_decoded_is_named_by_its_row(cifar100: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = cifar100 / "test-00000-of-00001.parquet"
    table = pq.read_table(file)
    cells = table["img"].to_pylist()
    cells[4]["bytes"] = b"no picture"
    pq.write_table(table.set_column(0, "img", pa.array(cells, table["img"].type)), file)
    samples = load("cifar100", "val", targets=("label",), root=tmp_path)
    assert samples[3]["image"].shape == (64, 64, 3)
    with pytest.raises(DataError, match=r"test-00000-of-00001\.parquet#0/4/img"):
        samples[4]


def test_what_is_missing_may_be_had_from_the_hub(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="hf download uoft-cs/cifar100 --repo-type dataset"):
        describe_split("cifar100", "val", root=tmp_path)
