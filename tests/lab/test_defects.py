"""The measurement behind the strengths of defects: perfect tokens score full marks, and flagged patches are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue import BACKBONES
from vitbench.data.scenes import CLASSES, Scene
from vitbench.lab import defects
from vitbench.tasks.patch_labels import soft_labels
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.types import TokenRequest


class _Oracle(Backbone):
    """Tokens that are the class shares of their patches; flagged ones in the top rows may lie."""

    def __init__(self, scenes: list[Scene], lies: bool) -> None:
        self.card = replace(BACKBONES.get("patch_colour"), patch_px=8)
        self.shares = torch.stack([torch.from_numpy(soft_labels(s.segmentation, 8, len(CLASSES))[0]) for s in scenes])
        self.lies, self.memory = lies, defects.MEMORY_SCENES
        self.calls = 0

    def _forward(
        self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Geometry
    ) -> dict[str, Tensor]:
        h, w = geometry.grid_hw
        grid = self.shares[self.calls : self.calls + len(keys)].reshape(len(keys), h, w, -1).clone()
        flags = torch.zeros(grid.shape[:3], dtype=torch.bool)
        flags[:, :6] = True
        if self.lies and self.calls >= self.memory:
            grid[flags] = grid[flags].roll(1, dims=-1)
        self.calls += len(keys)
        return {"patch": grid, "flags": flags}


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch) -> list[Scene]:
    monkeypatch.setattr(defects, "MEMORY_SCENES", 6)
    monkeypatch.setattr(defects, "TEST_SCENES", 2)
    monkeypatch.setattr(defects, "SETTINGS", replace(defects.SETTINGS, k=3, memory_size=0))
    return defects.scenes_of(0)


def test_tokens_that_know_the_classes_are_right(scenes: list[Scene]) -> None:
    found = defects.view_of(_Oracle(scenes, lies=False), scenes).scores()
    assert found["patch_accuracy"] > 98
    assert found["mIoU"] > 80


def test_a_defect_of_flagged_tokens_shows_on_those_alone(scenes: list[Scene]) -> None:
    clean, planted = (defects.view_of(_Oracle(scenes, lies), scenes) for lies in (False, True))
    assert planted.flagged == pytest.approx(25)
    found = planted.scores()
    assert found["flagged_accuracy"] < 10
    assert found["patch_accuracy"] == pytest.approx(75, abs=3)
    assert clean.scores(flagged_in=planted)["flagged_accuracy"] > 98
