"""Samples of a split in order, whoever decodes them."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import layouts
from vitbench.engine import streams
from vitbench.engine.streams import Samples
from vitbench.jobs import SplitRef


def ref(dataset: str, split: str) -> SplitRef:
    return SplitRef(dataset, split, (), None, 0, 0, "")


@pytest.fixture
def ade20k(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Samples:
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(streams, "LOOKAHEAD", 2)
    layouts.install("ade20k", tmp_path, monkeypatch)
    return Samples(ref("ade20k", "train"), tmp_path)


def test_files_are_decoded_by_other_threads_and_come_in_order(ade20k: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, one = set(), ade20k.get

    def slow_at_first(key: str) -> dict[str, Any]:
        threads.add(threading.get_ident())
        time.sleep(0.05 if key == ade20k.keys[0] else 0)
        return one(key)

    monkeypatch.setattr(ade20k, "get", slow_at_first)
    found = list(ade20k.images())
    assert [key for key, _ in found] == ade20k.keys
    assert threading.get_ident() not in threads
    for key, image in found:
        np.testing.assert_array_equal(image, one(key)["image"])


def test_only_a_few_samples_are_ahead(ade20k: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    one = ade20k.get
    monkeypatch.setattr(ade20k, "get", lambda key: (asked.append(key), one(key))[1])
    images = ade20k.images()
    next(images)
    time.sleep(0.1)
    assert len(asked) <= 3, "one to give, two ahead"
    images.close()  # type: ignore[attr-defined]
    assert threading.active_count() < 20


def test_rendered_pictures_are_made_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples(SplitRef("scenes", "val", (), 3, 0, 3, ""), None)
    threads, one = set(), samples.get
    monkeypatch.setattr(samples, "get", lambda key: (threads.add(threading.get_ident()), one(key))[1])
    assert len(list(samples.images())) == 3
    assert threads == {threading.get_ident()}
