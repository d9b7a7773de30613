"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# On a busy machine an example may take any time.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real images, weights and golden values kept beside the checkout; tests that need them are skipped without."""
    root = Path(os.environ.get("VITBENCH_SHARED", Path(__file__).parents[2] / "shared"))
    if not (root / "golden").is_dir():
        pytest.skip(f"no golden values or real samples at {root} (set VITBENCH_SHARED)")
    return root


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors are faster on one thread, and results do not depend on the machine's core count."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers, such as the plug-ins that it loads, is gone after it."""
    from vitbench.catalogue import BACKBONES, DATASETS, DEFECTS, REPAIRS, TASKS

    for registry in (BACKBONES, DATASETS, DEFECTS, REPAIRS, TASKS):
        monkeypatch.setattr(registry, "_cards", dict(registry._cards))
        monkeypatch.setattr(registry, "_origin", dict(registry._origin))
