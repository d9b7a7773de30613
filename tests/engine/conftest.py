"""A tiny backbone in memory that counts its forwards, and a way to run cells on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vitbench.backbones.base import Backbone, patch_pixels
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.fields import GRID_FIELDS, parse_field
from vitbench.choices import Filters, choose
from vitbench.engine.local import Summary, run
from vitbench.engine.options import RunOptions
from vitbench.engine.outcome import Outcome
from vitbench.engine.workspace import Workspace
from vitbench.jobs import BackboneState, Plan
from vitbench.plan import make_plan
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.types import TokenRequest


class Counting(Backbone):
    """Patch pixels times a fixed random matrix, the first one an outlier. `broken` makes its tokens NaN."""

    def __init__(self, broken: bool = False) -> None:
        self.card = BackboneCard("counting", "", "test", "module", 8, 1, 0, 16, 2, mean=(0, 0, 0), std=(1, 1, 1))
        self.digest = "c0ffee0000000000"
        self.images = 0
        self.broken = broken

    def _forward(
        self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Geometry
    ) -> dict[str, Tensor]:
        self.images += len(keys)
        weights = torch.randn(192, 16, generator=torch.Generator().manual_seed(0)).to(pixels.dtype)
        patch = patch_pixels(pixels, 8) @ weights
        patch[:, 0, 0] *= 20  # an outlier, for repairs that look for one
        if self.broken:
            patch = patch * float("nan")
        out: dict[str, Tensor] = {}
        for name in request.fields:
            kind = parse_field(name).kind
            if kind in GRID_FIELDS:
                out[name] = patch
            elif kind == "cls":
                out[name] = patch.mean((1, 2))
            elif kind == "norms":
                out[name] = patch.norm(dim=-1)[:, None].expand(-1, 2, -1, -1)
        return out


class Bench:
    """Runs a selection on the counting backbone, in this process."""

    def __init__(self, folder: Path) -> None:
        self.options = RunOptions(records=folder / "runs", cache=folder / "cache", workers=0)
        self.heard: list[tuple[str, str]] = []

    def started(self, job: Any) -> None:
        return None

    def finished(self, job: Any, outcome: Outcome) -> None:
        self.heard.append((job.id, outcome.status))

    def plan(self, backbone: Backbone, repairs: str, tasks: str, limit: int = 6, dataset: str = "scenes") -> Plan:
        stand_in = choose(None, Filters.parse("random_vit", repairs, tasks, dataset, limit=limit)).choices
        world = Workspace(self.options)
        world.know("counting", BackboneState(backbone.card, "ready", backbone.digest))
        return make_plan([replace(c, backbone="counting") for c in stand_in], world)

    def run(
        self, backbone: Backbone, repairs: str, tasks: str, limit: int = 6, dataset: str = "scenes"
    ) -> tuple[Plan, Summary]:
        plan = self.plan(backbone, repairs, tasks, limit, dataset)
        return plan, run(plan, self.options, self, {"counting": backbone})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def counting() -> type[Counting]:
    return Counting
