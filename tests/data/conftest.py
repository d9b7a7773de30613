"""A cache of its own and a data root for every test of data sets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import layouts
from tests.servers import Server

Install = Callable[[str], layouts.Miniature]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("VITBENCH_DATA", raising=False)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Writes a data set in miniature below tmp_path and lets its card expect it."""
    return lambda name: layouts.install(name, tmp_path, monkeypatch)


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of files that the test fills."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield made
        made.shutdown()
        thread.join()
