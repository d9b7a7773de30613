"""`vitbench check dataset`: every built-in set keeps the promises, and a set that breaks one is told which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import layouts
from tests.data.conftest import Install
from vitbench.catalogue import DATASETS
from vitbench.catalogue.cards import DatasetCard
from vitbench.data.contract import CHECKS, run_checks
from vitbench.errors import UnavailableError

KINDS = ("voc2012", "ade20k", "kitti_eigen", "coco20k", "davis2017", "spair71k", "roxford5k", "cifar100", "eurosat")


@pytest.mark.parametrize("name", KINDS)
def test_released_sets_keep_every_promise(name: str, install: Install, tmp_path: Path) -> None:
    install(name)
    assert [(f.check, f.problem) for f in run_checks(name, tmp_path)] == [(check, "") for check in CHECKS]


@pytest.mark.parametrize("name", ["scenes", "clips", "scenes_noise"])
def test_rendered_sets_keep_every_promise(name: str) -> None:
    assert not [f for f in run_checks(name, None) if f.problem]


def test_what_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"ADEChallengeData2016\.zip"):
        run_checks("ade20k", tmp_path)


class Mine:
    """A data set of somebody's own with two samples, changed by `spoil`."""

    def __init__(self, spoil: Callable[[dict[str, list[Any]]], None]) -> None:
        self.spoil = spoil

    def __call__(self, split: str) -> Any:
        import datasets

        columns: dict[str, list[Any]] = {"key": [f"{split}-0", f"{split}-1"], "label": [0, 1]}
        self.spoil(columns)

        def decode(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            count = len(batch["key"])
            return {
                **batch,
                "image": [np.zeros((8, 8, 3), np.uint8)] * count,
                "segmentation": [np.full((8, 8), 3, np.uint8)] * count,
                "depth": [np.full((8, 8), -1.0, np.float32)] * count,
                "boxes": [np.array([[0, 0, 90, 4]], np.float32)] * count,
            }

        return datasets.Dataset.from_dict(columns).with_transform(decode)


def _same_keys(columns: dict[str, list[Any]]) -> None:
    columns["key"] = ["a", "a"]


def _leak(columns: dict[str, list[Any]]) -> None:
    columns["key"][0] = "both"


def _other_label(columns: dict[str, list[Any]]) -> None:
    columns["label"] = [0, 2]


def _one_more(columns: dict[str, list[Any]]) -> None:
    columns["key"].append("more")
    columns["label"].append(0)


@pytest.mark.parametrize(
    "spoil, target, said",
    [
        (_same_keys, "label", "keys occur more than once"),
        (_leak, "label", "1 samples are in train and in val, such as 'both'"),
        (_other_label, "label", "is 2, not one of 2 classes"),
        (_one_more, "label", "described as 2 samples, loaded are 3"),
        (lambda _: None, "segmentation", "holds 3, there are 3 classes"),
        (lambda _: None, "depth", "is negative"),
        (lambda _: None, "boxes", "lie outside the image of 8 x 8"),
    ],
)
def test_a_broken_promise_is_named(
    spoil: Callable[[dict[str, list[Any]]], None], target: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = DatasetCard(
        "mine",
        Mine(spoil),
        "mine",
        {"train": 2, "val": 2},
        (target,),
        classes=("a", "b", "c"),
        label_classes=("a", "b"),
    )
    monkeypatch.setitem(DATASETS._cards, "mine", card)
    monkeypatch.setitem(DATASETS._origin, "mine", "test")
    assert any(said in f.problem for f in run_checks("mine", None))


def test_a_folder_of_ones_own_is_checked_too(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for i in range(2):
            layouts.jpeg(tmp_path / f"mine/{split}/images/{split}{i}.jpg", layouts.scene(i).image)
            layouts.png(tmp_path / f"mine/{split}/masks/{split}{i}.png", layouts.scene(i).segmentation)
    assert not [f for f in run_checks(f"folder:{tmp_path / 'mine'}", None) if f.problem]
