"""Samples of a split in order, whoever decodes them: threads, or processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests import layouts
from tests.processes import left
from vitbench.catalogue.views import View
from vitbench.data.images import read_mask
from vitbench.engine import decoders
from vitbench.engine.decoders import Decoders, Recipe, decoded, in_order
from vitbench.engine.options import RunOptions
from vitbench.engine.streams import Samples
from vitbench.errors import DataError
from vitbench.jobs import SplitRef

VIEW = View("resize", 32)


def ref(dataset: str, split: str, targets: tuple[str, ...] = (), **other: Any) -> SplitRef:
    return SplitRef(dataset, split, targets, None, 0, 0, "", **other)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    layouts.install("ade20k", tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def pool() -> Iterator[Decoders]:
    """Started once: what is tested is what the processes give."""
    found = Decoders(2, 2)
    yield found
    found.close()


def by(kind: str, pool: Decoders) -> Decoders:
    return pool if kind == "processes" else Decoders(0, 2)


def images(samples: Samples) -> list[tuple[str, Any]]:
    return [(key, views[0][0]) for key, views in samples.placed(VIEW, 8)]


# -- threads -----------------------------------------------------------------------------------------------------------


def test_files_are_decoded_by_other_threads_and_come_in_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples(ref("ade20k", "train"), root)
    threads, one = set(), samples.get

    def slow_at_first(key: str) -> dict[str, Any]:
        threads.add(threading.get_ident())
        time.sleep(0.05 if key == samples.keys[0] else 0)
        return one(key)

    monkeypatch.setattr(samples, "get", slow_at_first)
    assert [key for key, _ in images(samples)] == samples.keys
    assert threading.get_ident() not in threads


def test_only_a_few_samples_are_ahead(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "THREADS", 1)
    samples = Samples(ref("ade20k", "train"), root)
    asked: list[str] = []
    one = samples.get
    monkeypatch.setattr(samples, "get", lambda key: (asked.append(key), one(key))[1])
    before = set(threading.enumerate())
    found = samples.placed(VIEW, 8)
    next(found)
    time.sleep(0.1)
    assert len(asked) <= 3, "one to give, two ahead"
    found.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before


def test_rendered_pictures_are_made_where_they_are_asked_for(pool: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples(SplitRef("scenes", "val", (), 3, 0, 3, ""), None, pool)
    threads, one = set(), samples.get
    monkeypatch.setattr(samples, "get", lambda key: (threads.add(threading.get_ident()), one(key))[1])
    assert len(images(samples)) == 3
    assert threads == {threading.get_ident()}


# -- processes ---------------------------------------------------------------------------------------------------------


def test_processes_give_what_threads_give_in_the_same_order(root: Path, pool: Decoders) -> None:
    asked = ref("ade20k", "train", ("segmentation",))
    threads, processes = Samples(asked, root), Samples(asked, root, pool)
    for (key, expected), (other, found) in zip(images(threads), images(processes), strict=True):
        assert key == other
        np.testing.assert_array_equal(found, expected)
    keys = [f"{key}#{window}" for key in reversed(threads.keys) for window in (0, 1)]
    for a, b in zip(threads.targets(keys, ["segmentation"]), processes.targets(keys, ["segmentation"]), strict=True):
        assert a.keys() == b.keys() == {"segmentation"}
        np.testing.assert_array_equal(a["segmentation"], b["segmentation"])


@pytest.mark.parametrize(
    "name, target",
    [
        ("cifar10", "label"),
        ("coco_things", "segmentation"),
        ("davis2017", "frames"),
        ("imagenet_segmentation", "segmentation"),
        ("kitti_eigen", "depth"),
        ("nyu_labelled", "depth"),
        ("roxford5k", "relevance"),
        ("spair71k", "keypoints"),
    ],
)
def test_every_way_of_storing_is_decoded_by_processes_too(
    name: str, target: str, pool: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    layouts.install(name, tmp_path, monkeypatch)
    threads, processes = (Samples(ref(name, "val", (target,)), tmp_path, by(k, pool)) for k in ("threads", "processes"))
    for (key, expected), (other, found) in zip(images(threads), images(processes), strict=True):
        assert key == other
        np.testing.assert_array_equal(found, expected)
    for a, b in zip(threads.targets(threads.keys, [target]), processes.targets(threads.keys, [target]), strict=True):
        np.testing.assert_equal(b, a)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_targets_come_with_what_belongs_to_them(kind: str, pool: Decoders, tmp_path: Path, root: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    layouts.install("voc2007", tmp_path, monkeypatch)
    samples = Samples(ref("voc2007", "val", ("boxes",)), tmp_path, by(kind, pool))
    assert all(set(t) >= {"boxes", "boxes_hard"} for t in samples.targets(samples.keys, ["boxes"]))


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_corrupt_images_are_all_named_whoever_decodes(kind: str, pool: Decoders, root: Path) -> None:
    files = sorted((root / "ADEChallengeData2016/images/training").iterdir())
    for file in (files[1], files[4]):
        file.write_bytes(file.read_bytes()[:200])
    samples = Samples(ref("ade20k", "train"), root, by(kind, pool))
    with pytest.raises(DataError) as found:
        list(samples.placed(VIEW, 8))
    assert found.value.message.startswith("2 of 6 images cannot be used: ")
    assert all(str(file) in found.value.message for file in (files[1], files[4]))
    assert "--skip-corrupt" in found.value.remedy
    kept = Samples(ref("ade20k", "train", skip_corrupt=True), root, by(kind, pool))
    assert len(list(kept.placed(VIEW, 8))) == 4


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_pass_does_not_read_masks_and_a_cell_names_all_that_are_corrupt(
    kind: str, pool: Decoders, root: Path
) -> None:
    masks = sorted((root / "ADEChallengeData2016/annotations/training").iterdir())
    for mask in (masks[0], masks[3]):
        mask.write_bytes(b"no image")
    samples = Samples(ref("ade20k", "train", ("segmentation",), pictures="x"), root, by(kind, pool))
    assert len(list(samples.placed(VIEW, 8))) == 6
    with pytest.raises(DataError) as found:
        list(samples.targets(samples.keys, ["segmentation"]))
    assert "2 of 6 samples" in found.value.message
    assert all(str(mask) in found.value.message for mask in (masks[0], masks[3]))


def test_skipping_corrupt_samples_counts_masks_too(root: Path, pool: Decoders) -> None:
    mask = sorted((root / "ADEChallengeData2016/annotations/training").iterdir())[0]
    mask.write_bytes(b"no image")
    samples = Samples(ref("ade20k", "train", ("segmentation",), skip_corrupt=True), root, pool)
    assert len(list(samples.placed(VIEW, 8))) == 5


def test_few_samples_or_cores_are_not_worth_a_process_unless_one_is_asked_for() -> None:
    assert not Decoders(None, decoders.CORES - 1).worth_it(10**6)
    assert not Decoders(None, 8).worth_it(decoders.MANY - 1)
    assert Decoders(None, 8).worth_it(decoders.MANY)
    assert Decoders(1, 8).worth_it(1)
    assert not Decoders(0, 8).worth_it(10**6)


def test_a_run_within_one_process_starts_none_that_decodes_unless_asked() -> None:
    # A script that calls `evaluate` may have no guard: a spawned process would run it once more.
    assert RunOptions(workers=0).decoder_count() == 0
    assert RunOptions(workers=0, decoders=2).decoder_count() == 2
    assert RunOptions(workers=1).decoder_count() is None


def test_what_cannot_be_sent_is_decoded_by_threads(root: Path, pool: Decoders) -> None:
    samples = Samples(ref("ade20k", "train"), root, pool)
    own = samples._dataset.format["format_kwargs"]["transform"]
    samples._dataset = samples._dataset.with_transform(lambda rows: own(rows))
    assert Recipe(lambda rows: rows, len).packed() is None
    assert len(images(samples)) == 6


def test_a_decoding_process_that_is_killed_is_one_line_and_the_next_pass_has_new_ones(root: Path) -> None:
    own = Decoders(1, 1)
    samples = Samples(ref("ade20k", "train"), root, own)
    try:
        first = samples.placed(VIEW, 8)
        next(first)
        assert own._pool is not None
        [process] = own._pool._processes.values()
        process.kill()
        process.join()  # not waitid: the pool's own thread may have reaped it already
        with pytest.raises(DataError, match="--decoders"):
            list(samples.placed(VIEW, 8))
        assert len(images(samples)) == 6
    finally:
        own.close()


KILLED = """
import os, sys, time
from pathlib import Path
from vitbench.catalogue.views import View
from vitbench.engine.decoders import Decoders, in_order, decoded, Recipe
if __name__ == "__main__":
    own = Decoders(2, 2)
    recipe = Recipe(dict, len).packed()
    print(list(own.by_processes(recipe, [({"a": [1], "b": [2]}, ())] * 16)), *own._pool._processes, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_decoding_processes_end_with_the_one_they_decode_for(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert parent.stdout is not None
    line = parent.stdout.readline()
    assert line.startswith(str([2] * 16))
    children = [psutil.Process(int(pid)) for pid in line.split("]")[1].split()]
    assert children
    parent.send_signal(how)
    parent.wait()
    parent.stdout.close()
    assert not left(children)


HEAVY = """
import subprocess, sys
from vitbench.engine.decoders import decoded
decoded(bytes.fromhex(sys.argv[1]), [({"key": [""], "image": [sys.argv[2]]}, ())])
print(sorted({"torch", "datasets", "pandas", "pyarrow"} & set(sys.modules)))
"""


@pytest.mark.parametrize("cut", ["placed", "targets"])
def test_a_process_that_decodes_imports_neither_torch_nor_datasets(
    cut: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = Samples(ref("ade20k", "train", pictures="x"), root, Decoders(1, 1))
    sent: list[bytes] = []
    monkeypatch.setattr(Decoders, "by_processes", lambda self, recipe, asked: sent.append(recipe) or iter(asked))
    list(samples.placed(VIEW, 8) if cut == "placed" else samples.targets(samples.keys, ["segmentation"]))
    file = sorted((root / "ADEChallengeData2016/images/training").iterdir())[0].relative_to(
        root / "ADEChallengeData2016"
    )
    done = subprocess.run([sys.executable, "-c", HEAVY, sent[0].hex(), str(file)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_an_error_takes_the_place_of_its_row_only(tmp_path: Path) -> None:
    layouts.png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    recipe = Recipe(_masks, _shape).packed()
    assert recipe is not None
    paths = [str(tmp_path / name) for name in ("a.png", "b.png", "a.png")]
    found = decoded(recipe, [({"mask": [path]}, ()) for path in paths])
    assert found[0] == found[2] == (4, 4)
    assert isinstance(found[1], DataError)
    assert "b.png" in found[1].message


def _masks(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"mask": [read_mask(Path(path)) for path in batch["mask"]]}


def _shape(sample: Any) -> tuple[int, ...]:
    return tuple(sample["mask"].shape)


def test_an_error_keeps_its_message_and_remedy_on_its_way_between_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(DataError("a.png is broken", "replace it")))
    assert (error.message, error.remedy, str(error)) == (
        "a.png is broken",
        "replace it",
        "a.png is broken - replace it",
    )


def test_what_is_not_asked_for_is_not_begun() -> None:
    from concurrent.futures import ThreadPoolExecutor

    begun: list[int] = []
    with ThreadPoolExecutor(1) as one:
        found = in_order(one, lambda i: begun.append(i) or i, iter(range(100)), ahead=3)
        assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
        found.close()  # type: ignore[attr-defined]
    assert len(begun) <= 9
