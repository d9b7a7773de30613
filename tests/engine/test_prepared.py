"""What streaming tasks make of samples is the same whoever makes it: threads, one process, several."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import layouts
from tests.tasks.live import FIELDS, Colours
from tests.tasks.streams import context, light
from vitbench.catalogue import TASKS
from vitbench.catalogue.tasks.streaming import StreamSettings
from vitbench.catalogue.views import View
from vitbench.data.augment import DepthAugment, SegmentationAugment
from vitbench.engine.decoders import Decoders, Recipe
from vitbench.engine.streams import Samples
from vitbench.errors import DataError
from vitbench.jobs import SplitRef
from vitbench.tasks.crops import (
    DepthCrop,
    LabelledCrop,
    LabelledView,
    Scene,
    SceneViews,
    SegmentationCrop,
    Slides,
    SlideWindows,
    label_of,
    largest_class,
)
from vitbench.tasks.training import drawn, training_inputs
from vitbench.tokens.types import TokenRequest, Tokens
from vitbench.tokens.views import batch

SETTINGS = StreamSettings(iterations=5, batch=4)
SEGMENTATION = SegmentationCrop(SegmentationAugment(48, 96, 32), 256, 8)
MAKES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "segmentation crops": (SEGMENTATION, ((7, 1, 3),)),
    "windows": (SlideWindows(40, None, 32, 20, (1.0, 1.5), True, False, 8), ()),
    "largest class": (largest_class, (255,)),
    "depth crops": (DepthCrop(DepthAugment(30, 40, "none"), 8), ((7, 1, 3),)),
    "scenes": (SceneViews(True, 8), ()),
    "labelled crops": (LabelledCrop(32, 99, 8), ((7, 1, 3),)),
    "labelled views": (LabelledView(View("crop", 32), None, 8), ()),
    "label": (label_of, ()),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight JPEGs of a train split with a target of each kind."""
    root = tmp_path_factory.mktemp("mine")
    lines = ["file,label"]
    for i in range(8):
        scene = layouts.scene(i)
        layouts.jpeg(root / "train/images" / f"{i}.jpg", scene.image)
        layouts.png(root / "train/masks" / f"{i}.png", scene.segmentation)
        layouts.png(root / "train/depth" / f"{i}.png", np.round(scene.depth * 1000).astype(np.uint16))
        lines.append(f"{i}.jpg,kind{i % 3}")
    layouts.text(root / "train/labels.csv", lines)
    return root


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[str, Decoders]]:
    found = {"threads": Decoders(0, 2), "one process": Decoders(1, 2), "two processes": Decoders(2, 2)}
    yield found
    for pool in found.values():
        pool.close()


def samples(folder: Path, pool: Decoders) -> Samples:
    targets = ("segmentation", "depth", "label")
    return Samples(SplitRef(f"folder:{folder}", "train", targets, None, 0, 0, ""), None, pool)


class Live:
    """A split as the engine has it, before a frozen stand-in for a backbone."""

    split, patch_px = "train", 8

    def __init__(self, folder: Path, pool: Decoders) -> None:
        self._samples, self._backbone = samples(folder, pool), Colours(self.patch_px)
        self.keys, self.sample = tuple(self._samples.keys), self._samples.get

    def __len__(self) -> int:
        return len(self.keys)

    def prepared(self, asked: Any, make: Any, ahead: int = 0, light: bool = True) -> Iterator[Any]:
        return self._samples.prepared(asked, make, ahead, light)

    def tokens(self, placed: Any, keys: Any) -> Tokens:
        pixels, geometry = batch(placed, self.patch_px)
        return self._backbone.forward(pixels, geometry, TokenRequest(FIELDS), keys)

    def resumed(self) -> dict[str, Any]:
        return {}

    def keep(self, _state: Any) -> None:
        return None


def flat(made: Any) -> list[Any]:
    """Arrays and all else, in order, of what was made."""
    if isinstance(made, list | tuple):
        return [part for one in made for part in flat(one)]
    return flat(list(vars(made).values())) if isinstance(made, Slides | Scene) else [made]


@pytest.mark.parametrize("name", MAKES)
def test_processes_make_the_bytes_that_threads_make(name: str, folder: Path, pools: dict[str, Decoders]) -> None:
    make, told = MAKES[name]
    found = []
    for pool in pools.values():
        split = samples(folder, pool)
        keys = [*reversed(split.keys), *split.keys]
        found.append(list(split.prepared(((key, *told) for key in keys), make, 0, True)))
    assert len(found[0]) == 16
    for one, *others in zip(*found, strict=True):
        for other in others:
            for a, b in zip(flat(one), flat(other), strict=True):
                assert type(a) is type(b)
                if isinstance(a, np.ndarray):
                    assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)


def test_batches_are_the_same_whoever_makes_them_and_wherever_training_starts(
    folder: Path, pools: dict[str, Decoders]
) -> None:
    def batches(pool: Decoders, start: int) -> list[Any]:
        live = Live(folder, pool)
        return list(training_inputs(live, live.keys, SETTINGS, 3, start, SEGMENTATION, 256))

    expected = batches(pools["threads"], 0)
    assert [len(inputs.batches[0][0]) for inputs in expected] == [4] * 5
    for kind, start in (("one process", 0), ("two processes", 0), ("two processes", 3), ("threads", 3)):
        for a, b in zip(batches(pools[kind], start), expected[start:], strict=True):
            assert a.about.iteration == b.about.iteration
            assert a.about.targets.dtype == b.about.targets.dtype
            assert a.about.targets.equal(b.about.targets)
            for (pixels, placement), (other, place) in zip(a.batches[0][0], b.batches[0][0], strict=True):
                assert placement == place
                np.testing.assert_array_equal(pixels, other)


@pytest.mark.parametrize("protocol", ["linear_segmentation@dinov2", "linear_segmentation@dinov3", "depth@dinov2"])
def test_heads_and_rows_are_the_same_whoever_makes_their_inputs(
    protocol: str, folder: Path, pools: dict[str, Decoders]
) -> None:
    task, _, name = protocol.partition("@")
    ref = light(TASKS.get(task), name)
    changes: dict[str, Any] = {"iterations": 4, "batch": 3, "learning_rate": "1e-2/1e-3", "holdout": 0.3}
    runs = replace(ref, settings=replace(ref.settings, **changes)).load()
    found = []
    for pool in pools.values():
        live = Live(folder, pool)
        head = runs.fit(live, context())
        found.append((head.head.weight, head.head.bias, runs.measure(head, live, context()).stats))
    for weight, bias, stats in found[1:]:
        assert weight.equal(found[0][0])
        assert bias.equal(found[0][1])
        assert stats.keys() == found[0][2].keys()
        for column, values in stats.items():
            np.testing.assert_array_equal(values, found[0][2][column])


@pytest.mark.parametrize("sent", [False, True])
def test_what_cannot_be_sent_or_needs_torch_is_made_by_threads(
    sent: bool, folder: Path, pools: dict[str, Decoders], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoders, "by_processes", refused)
    split = samples(folder, pools["two processes"])
    names: set[str] = set()

    def noted(_sample: Any, key: str) -> str:
        names.add(threading.current_thread().name)
        return key

    if not sent:
        assert list(split.prepared(((key,) for key in split.keys), noted, 0, True)) == split.keys
        assert threading.current_thread().name not in names
    else:
        assert len(list(split.prepared(((key,) for key in split.keys), label_of, 0, False))) == 8
        with pytest.raises(AssertionError, match="asked a process"):
            list(split.prepared(((key,) for key in split.keys), label_of, 0, True))


def test_rendered_pictures_are_made_in_this_process(
    pools: dict[str, Decoders], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoders, "by_processes", refused)
    split = Samples(SplitRef("scenes", "train", (), 3, 0, 3, ""), None, pools["two processes"])
    assert len(list(split.prepared(((key, 255) for key in split.keys), largest_class, 0, True))) == 3


def refused(*_: Any, **__: Any) -> None:
    raise AssertionError("asked a process")


@pytest.mark.parametrize("kind", ["threads", "two processes"])
def test_a_corrupt_image_and_a_wrong_label_are_named(kind: str, folder: Path, pools: dict[str, Decoders]) -> None:
    split = samples(folder, pools[kind])
    few = SegmentationCrop(SEGMENTATION.augment, 1, 8)
    with pytest.raises(DataError, match=rf"image '{split.keys[0]}'.*outside the 1 classes"):
        list(split.prepared(((key, (0,)) for key in split.keys), few, 0, True))
    file = folder / "train/images/3.jpg"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:100])
        with pytest.raises(DataError, match=r"3\.jpg"):
            list(samples(folder, pools[kind]).prepared(((key,) for key in split.keys), label_of, 0, True))
    finally:
        file.write_bytes(whole)
    assert len(list(split.prepared(((key,) for key in split.keys), label_of, 0, True))) == 8


def test_a_process_that_is_killed_in_training_is_one_line_and_the_next_stream_has_new_ones(folder: Path) -> None:
    own = Decoders(1, 1)
    live = Live(folder, own)
    endless = StreamSettings(iterations=10_000, batch=4)
    try:
        stream = training_inputs(live, live.keys, endless, 0, 0, SEGMENTATION, 256)
        next(stream)
        assert own._pool is not None
        [process] = own._pool._processes.values()
        process.kill()
        process.join()  # not waitid: the pool's own thread may have reaped it already
        with pytest.raises(DataError, match="killed") as found:
            list(stream)
        assert "\n" not in str(found.value)
        assert "--decoders" in str(found.value)
        assert len(list(training_inputs(live, live.keys, SETTINGS, 0, 0, SEGMENTATION, 256))) == 5
    finally:
        own.close()


def test_only_what_is_soon_wanted_is_made_ahead(folder: Path, pools: dict[str, Decoders]) -> None:
    asked: list[str] = []
    split = samples(folder, pools["two processes"])
    settings = StreamSettings(iterations=10_000, batch=4)
    every = ((asked.append(key), key)[1:] for key, _ in drawn(split.keys, settings, 0, 0))
    made = split.prepared(every, label_of, 8, True)
    next(made)
    assert len(asked) <= 256 + 9, "some are looked at, to know whether processes are worth it; then eight ahead"
    for _ in range(300):
        next(made)
    assert len(asked) == 301 + 8
    made.close()  # type: ignore[attr-defined]


HEAVY = """
import pickle, sys
from vitbench.engine.decoders import decoded
for given in sys.argv[1:]:
    packed, row, told = pickle.loads(bytes.fromhex(given))
    [made] = decoded(packed, [(row, told)])
    assert not isinstance(made, Exception), made
print(sorted({"torch", "datasets", "pandas", "pyarrow"} & set(sys.modules)))
"""


def test_what_processes_make_needs_neither_torch_nor_datasets(folder: Path, pools: dict[str, Decoders]) -> None:
    split = samples(folder, pools["threads"])
    [row] = split._dataset.with_format(None).select([0])
    transform = split._dataset.format["format_kwargs"]["transform"]
    sent = [
        pickle.dumps((Recipe(transform, make).packed(), {n: [v] for n, v in row.items()}, (split.keys[0], *told)))
        for make, told in MAKES.values()
    ]
    done = subprocess.run(
        [sys.executable, "-c", HEAVY, *(given.hex() for given in sent)], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
