"""A repair that changes the backbone it is given fails alone: cells after it read the backbone as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vitbench.backbones.untouched import fingerprint
from vitbench.engine.jobs import Workbench
from vitbench.engine.options import RunOptions
from vitbench.errors import RepairError


@torch.no_grad()
def _scale(module: Any) -> None:
    next(module.parameters()).mul_(0.5)


def _hook(module: Any) -> None:
    module.blocks[0].register_forward_hook(lambda _m, _a, x: x)


def _shadow(module: Any) -> None:
    module.blocks[0].forward = lambda x: x


@pytest.mark.parametrize("change", [_scale, _hook, _shadow])
def test_a_changed_backbone_is_noticed_and_loaded_anew(tmp_path: Path, change: Callable[[nn.Module], None]) -> None:
    bench = Workbench(RunOptions(cache=tmp_path, device="cpu"))
    first = bench.backbone("lab_ssl", "float32")
    assert first.module is not None
    before = fingerprint(first.module)
    bench.require_untouched("mine")
    change(first.module)
    with pytest.raises(RepairError, match="'mine' changes the weights or hooks"):
        bench.require_untouched("mine")
    again = bench.backbone("lab_ssl", "float32")
    assert fingerprint(again.module) == before


def test_a_module_in_memory_that_was_changed_is_not_used_again(tmp_path: Path) -> None:
    options = RunOptions(cache=tmp_path, device="cpu")
    own = Workbench(options).backbone("lab_ssl", "float32")
    bench = Workbench(options, {"model": own})
    _scale(bench.backbone("model", "float32").module)
    with pytest.raises(RepairError):
        bench.require_untouched("mine")
    with pytest.raises(RepairError, match="'model', which is in memory only"):
        bench.backbone("model", "float32")
