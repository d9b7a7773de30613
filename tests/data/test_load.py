"""Data sets by name: the card of the scenes agrees with its generator, and errors name what there is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from vitbench.catalogue.datasets import SCENES
from vitbench.data import scenes
from vitbench.data.layout import require_split
from vitbench.data.load import describe_dataset, describe_split, load
from vitbench.errors import UnavailableError, UsageError


def test_the_card_of_the_scenes_agrees_with_the_generator() -> None:
    assert SCENES.classes == scenes.CLASSES
    assert SCENES.object_classes == scenes.OBJECT_CLASSES
    assert SCENES.ignore_index == scenes.IGNORE_INDEX
    assert SCENES.version == scenes.VERSION
    assert dict(SCENES.splits) == {name: count for name, (_, count) in scenes.SPLITS.items()}
    sample = load("scenes", "val", limit=1)[0]
    assert sample["image"].shape[:2] == SCENES.size_px
    assert {*SCENES.targets, "image", "key"} <= set(sample)


def test_a_limit_keeps_the_first_scenes_whatever_the_seed() -> None:
    assert describe_split("scenes", "train", limit=7, seed=1) == describe_split("scenes", "train", limit=7, seed=2)
    assert describe_split("scenes", "train", limit=7)[0] == len(load("scenes", "train", limit=7)) == 7
    assert describe_split("scenes", "train", limit=7)[1] != describe_split("scenes", "train", limit=8)[1]
    assert describe_split("scenes", "train")[1] != describe_split("scenes", "val")[1]
    assert describe_split("scenes", "val", limit=10**6)[0] == 500


def test_unknown_names_splits_and_targets_say_what_there_is() -> None:
    with pytest.raises(UsageError, match="did you mean scenes"):
        describe_dataset("scene")
    with pytest.raises(UsageError, match="train, val"):
        load("scenes", "test")
    with pytest.raises(UnavailableError, match="keypoints"):
        describe_split("scenes", "val", targets=("keypoints",))


def test_a_split_that_a_task_asks_for_in_vain_is_a_status_so_that_other_tasks_of_the_selection_run() -> None:
    mine = replace(SCENES, name="mine", splits={"val": 5})  # made, not released
    with pytest.raises(UnavailableError, match="no split 'train' - it has val"):
        require_split(mine, "train", ())
    with pytest.raises(UsageError, match="no split 'test'"):
        require_split(mine, "test", ())
    assert require_split(mine, "val", ()) == "val"


def test_describing_imports_neither_torch_nor_datasets() -> None:
    code = (
        "import sys; from vitbench.data.load import describe_dataset, describe_split; describe_dataset('scenes');"
        "describe_split('scenes', 'val'); from vitbench.data.folder import describe;"
        "print([m for m in ('torch', 'datasets', 'pandas') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
