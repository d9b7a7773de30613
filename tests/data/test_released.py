"""Every released data set, in miniature: what is loaded is what was written."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import layouts
from vitbench.catalogue import DATASETS
from vitbench.catalogue.dataset_cards import RELEASED
from vitbench.catalogue.release import class_names
from vitbench.data.load import describe_dataset, describe_split, load
from vitbench.data.scenes import Scene
from vitbench.errors import UnavailableError

NAMES = [card.name for card in RELEASED]
OBJECT_MASKS = ("ecssd", "duts_te", "dut_omron", "imagenet_segmentation", "davis2016")


def expected_mask(name: str, scene: Scene) -> Any:
    if name in OBJECT_MASKS:
        return (scene.instances > 0).astype(np.uint8)
    return scene.instances if name == "davis2017" else scene.segmentation


@pytest.mark.parametrize("name", NAMES)
def test_what_is_loaded_is_what_was_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mini = layouts.install(name, tmp_path, monkeypatch)
    card = describe_dataset(name, tmp_path)
    for split, count in mini.splits.items():
        samples = load(name, split if split not in card.roles else _role(card, split), root=tmp_path)
        if split in card.roles:
            continue
        assert len(samples) == count, split
        _check_targets(name, card, split, mini, tmp_path)


def _role(card: Any, split: str) -> str:
    return next((role for role, of in card.roles.items() if of == split), split)


def _check_targets(name: str, card: Any, split: str, mini: layouts.Miniature, root: Path) -> None:
    for target in card.targets:
        try:
            samples = load(name, split, targets=(target,), root=root)
        except UnavailableError:
            continue  # this split has other targets
        for sample in samples:
            if sample["key"] not in mini.scenes:
                assert name in ("eurosat", "resisc45", "caltech101")
                continue
            scene = mini.scenes[sample["key"]]
            assert sample["image"].dtype == np.uint8
            assert sample["image"].ndim == 3
            if name not in ("cifar10", "cifar100", "kitti_eigen", "roxford5k", "rparis6k"):
                assert sample["image"].shape == (layouts.SIZE, layouts.SIZE, 3)
                assert np.abs(sample["image"].astype(int) - scene.image).mean() < 8  # JPEG
            if target == "segmentation":
                np.testing.assert_array_equal(sample["segmentation"], expected_mask(name, scene))
            if name == "navi" and target == "depth":  # steps of its inverse
                np.testing.assert_allclose(1 / sample["depth"], 1 / scene.depth, atol=0.51 / 655.35)
            elif target == "depth" and name != "kitti_eigen":
                np.testing.assert_allclose(sample["depth"], scene.depth, atol=6e-4)
            if target == "boxes":
                np.testing.assert_allclose(sample["boxes"], scene.boxes, atol=1e-3)
            if target == "label":
                assert 0 <= sample["label"] < max(len(card.label_classes), 3)


def test_every_card_has_a_miniature_and_says_how_to_obtain_it() -> None:
    from tests.layout_lists import WRITERS

    assert {*layouts.WRITERS, *WRITERS} == set(NAMES)
    for card in RELEASED:
        assert card.release is not None
        assert card.release.obtain
        assert card.source is not None, card.name
        assert DATASETS.load(card.name).index


@pytest.mark.parametrize("card", RELEASED, ids=NAMES)
def test_lists_of_class_names_are_there_and_long_enough(card: Any) -> None:
    expected = {"ade20k": 150, "cityscapes": 19, "voc2012": 21, "pascal_context": 60, "pascal_context59": 59, "coco_stuff": 15,
                "coco_things": 12, "camvid": 11, "cifar100": 100, "dtd": 47, "spair71k": 18}  # fmt: skip
    for file in filter(None, (card.class_file, card.label_file)):
        names = class_names(file)
        assert len(set(names)) == len(names)
        assert len(names) == expected.get(card.name, len(names))


LIGHT = """
import sys
from pathlib import Path
from dataclasses import replace
from vitbench.catalogue import DATASETS
from vitbench.data.load import describe_dataset, describe_split
name, target, train, val, root = sys.argv[1:]
card = DATASETS.get(name)
DATASETS._cards[name] = replace(card, splits={**card.splits, "train": int(train), "val": int(val)})
describe_dataset(name, Path(root))
for limit in (None, 2, "stratified:2"):
    assert describe_split(name, "val", targets=(target,), limit=limit, root=Path(root))[0]
print([m for m in ("torch", "datasets", "pandas", "matplotlib", "sklearn") if m in sys.modules])
"""


@pytest.mark.parametrize("name, target", [("imagenet1k", "label"), ("ade20k", "segmentation")])
def test_describing_a_released_set_imports_nothing_heavy(
    name: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = layouts.install(name, tmp_path, monkeypatch)
    describe_dataset(name, tmp_path)
    describe_split(name, "val", targets=(target,), root=tmp_path)  # listed once: pyarrow asks for pandas when it writes
    arguments = [name, target, str(mini.splits["train"]), str(mini.splits["val"]), str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", LIGHT, *arguments], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", ["ade20k", "cifar10", "kitti_eigen"])
def test_samples_are_decoded_alike_in_another_process(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.install(name, tmp_path, monkeypatch)
    samples = load(name, "val", targets=DATASETS.get(name).targets, root=tmp_path)
    again = pickle.loads(pickle.dumps(samples))  # what is sent to a worker
    np.testing.assert_array_equal(again[1]["image"], samples[1]["image"])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_there_is_a_status_with_the_instruction(name: str, tmp_path: Path) -> None:
    release = DATASETS.get(name).release
    assert release is not None
    with pytest.raises(UnavailableError) as missing:
        describe_split(name, "val", targets=DATASETS.get(name).targets[:1], root=tmp_path)
    assert release.folder in str(missing.value)
    assert release.obtain in str(missing.value)
    with pytest.raises(UnavailableError, match="no data root"):
        describe_split(name, "val", targets=DATASETS.get(name).targets[:1])
