"""A cache of its own and a data root for every test of data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import layouts

Install = Callable[[str], layouts.Miniature]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("VITBENCH_DATA", raising=False)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Writes a data set in miniature below tmp_path and lets its card expect it."""
    return lambda name: layouts.install(name, tmp_path, monkeypatch)
