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
    [
        ({"limit": 0}, "--limit 0"), ({"dtype": "float8"}, "--dtype 'float8'"), ({"model": 3}, "int is no model"),
        ({"seeds": "one"}, "--seeds 'one'"), ({"subset": "stratified:4"}, "--limit and --subset exclude each other"),
        ({"weights": {"patch_colour[patch_px=4]": "x"}}, "without brackets"),
        ({"weights": {"patch_colour": "nowhere.pth"}}, "no file nowhere.pth"),
        ({"plugins": "nowhere.py"}, "plugin nowhere.py: no such file"),
    ],
)  # fmt: skip
def test_what_the_command_line_refuses_is_refused_from_python_too(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        vitbench.evaluate(**{"model": "patch_colour", "limit": 4, **given})


PLUGIN = """
from dataclasses import dataclass
from vitbench.catalogue.cards import RepairCard
from vitbench.repairs.base import Repair

@dataclass(frozen=True)
class Params:
    by: float = 2.0

class Stretch(Repair):
    card = RepairCard(
        name="stretch", entry=None, params=Params(), family="map", acts_on=("patch",), stochastic=True, summary="longer"
    )

    def map_field(self, x, state, tokens, name):
        return x * self.params.by
"""


def test_seeds_weights_and_plugins_are_those_of_the_command_line(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from vitbench.backbones.lab import build_lab_vit

    for step in (10, 20):
        torch.manual_seed(step)
        save_file(build_lab_vit().state_dict(), tmp_path / f"lab-{step}.safetensors")
    (tmp_path / "stretch.py").write_text(PLUGIN)
    found = vitbench.evaluate(
        "lab_ssl@*", repairs=["none", "stretch[by=3.0]"], tasks="rank[image_px=64]", limit=2, seeds=[0, 1],
        weights={"lab_ssl@{step}": tmp_path / "lab-{step}.safetensors"}, plugins=[str(tmp_path / "stretch.py")],
    )  # fmt: skip
    cells = found[found.headline].set_index(["backbone", "repair", "seed"])
    assert set(cells.status) == {"ok"}
    assert set(cells.index) == {
        (backbone, repair, seed)
        for backbone in ("lab_ssl@10", "lab_ssl@20")
        for repair, seed in (("none", 0), ("stretch[by=3.0]", 0), ("stretch[by=3.0]", 1))
    }
    assert cells.value["lab_ssl@10", "none", 0] != cells.value["lab_ssl@20", "none", 0]


def test_tab_and_help_find_the_public_names_and_each_says_what_it_raises_or_gives() -> None:
    assert set(vitbench.__all__) <= set(dir(vitbench))
    for name in set(vitbench.__all__) - {"__version__"}:
        assert len((getattr(vitbench, name).__doc__ or "").splitlines()) > 4, name
        assert name in (vitbench.__doc__ or "")
