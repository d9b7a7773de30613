"""vitbench from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import vitbench
from vitbench.errors import UsageError


def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, embed_dim=32, depth=2, num_heads=2, img_size=192, dynamic_img_size=True
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))


def test_a_module_in_a_training_loop_is_measured_and_left_as_it_was(tmp_path: Path) -> None:
    model = tiny().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = vitbench.evaluate(
        model, repairs="none,zscore", tasks="linear_segmentation", limit=4, records=tmp_path / "runs"
    )
    table = found[found.metric == "mIoU"].set_index("repair")
    assert set(table.index) == {"none", "zscore"}
    assert table.value.between(0, 100).all()
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert next(model.parameters()).requires_grad


def test_changed_weights_are_measured_again_and_unchanged_ones_are_not(tmp_path: Path) -> None:
    model = tiny()
    arguments = {"tasks": "depth", "limit": 4, "records": tmp_path / "runs"}
    first = vitbench.evaluate(model, **arguments)  # type: ignore[arg-type]
    same = vitbench.evaluate(model, **arguments)  # type: ignore[arg-type]
    with torch.no_grad():
        model.blocks[0].mlp.fc1.weight.mul_(3)  # type: ignore[union-attr, operator, index]
    other = vitbench.evaluate(model, **arguments)  # type: ignore[arg-type]
    identities = [set(f.identity) for f in (first, same, other)]
    assert identities[0] == identities[1] != identities[2]
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 2
    assert set(vitbench.load_records(tmp_path / "runs").identity) == identities[0] | identities[2]


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="did you mean"):
        vitbench.evaluate("patch_color")


@pytest.mark.parametrize(
    ("given", "words"),
    [({"limit": 0}, "--limit 0"), ({"dtype": "float8"}, "--dtype 'float8'"), ({"model": 3}, "int is no model")],
)
def test_what_the_command_line_refuses_is_refused_from_python_too(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        vitbench.evaluate(**{"model": "patch_colour", "limit": 4, **given})
