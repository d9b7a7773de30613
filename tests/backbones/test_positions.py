"""Rules of position embeddings: what each loader does, said again with torch's own call; and a name for each."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.cli.conftest import Run, run  # noqa: F401 - a fixture
from vitbench.backbones.defects import plant_all
from vitbench.backbones.load import load_backbone
from vitbench.backbones.positions import follow, resampled
from vitbench.catalogue.families import POSITION_RULES, PositionRule
from vitbench.catalogue.resolve import expand_backbones
from vitbench.catalogue.weights import describe_backbone
from vitbench.choices import Filters, choose
from vitbench.cli.options import suite_slots
from vitbench.engine.options import RunOptions, parse_weights
from vitbench.engine.workspace import Workspace
from vitbench.errors import NotApplicableError, UsageError
from vitbench.identity import Slot
from vitbench.jobs import CellJob
from vitbench.plan import make_plan
from vitbench.records.index import Loaded
from vitbench.tokens.types import TokenRequest, Tokens

from .by_hand import images, tiny, view

TINY = "deit_tiny_patch16_224.fb_in1k"
SMALL, TWIN = "vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2.lvd142m"
LEARNED = (
    "vit_small_patch16_224",
    "deit3_small_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch16_siglip_224",
    "eva02_small_patch14_224",
    "vit_pe_spatial_small_patch16_512",
)
OTHER: tuple[PositionRule, ...] = ("hub", "transformers")
GRIDS = ((3, 5), (6, 6), (2, 8), (9, 4))  # the native grid is 4x4; 2x8 has as many cells


def upstream(positions: Tensor, new_size: Sequence[int], loader: str, prefix: int) -> Tensor:
    """What a loader does on a square native grid, after its own code: `hub` and `hub_registers` differ in two arguments."""
    h, w = new_size
    native = round((positions.shape[1] - prefix) ** 0.5)
    if native * native == h * w and h == w:
        return positions
    patches = positions[:, prefix:].float().reshape(1, native, native, -1).permute(0, 3, 1, 2)
    if loader == "hub":
        scales = ((h + 0.1) / native, (w + 0.1) / native)
        patches = F.interpolate(patches, mode="bicubic", antialias=False, scale_factor=scales)
    elif loader == "hub_registers":
        patches = F.interpolate(patches, mode="bicubic", antialias=True, size=(h, w))
    else:
        patches = F.interpolate(patches, mode="bicubic", align_corners=False, size=(h, w))
    assert patches.shape[2:] == (h, w)
    patches = patches.permute(0, 2, 3, 1).reshape(1, h * w, -1).to(positions.dtype)
    return torch.cat((positions[:, :prefix], patches), dim=1)


def tokens(module: nn.Module, grid_hw: tuple[int, int], n: int = 2) -> Tokens:
    backbone = view(module)
    patch = backbone.card.patch_px
    request = TokenRequest(("patch", "patch_raw", "block_0", "cls"))
    return backbone.tokens(images(n, (grid_hw[0] * patch, grid_hw[1] * patch)), request, [str(i) for i in range(n)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grid_hw", GRIDS)
@pytest.mark.parametrize("prefix", [0, 1])
def test_each_rule_is_its_loaders_call(grid_hw: tuple[int, int], prefix: int, dtype: torch.dtype) -> None:
    positions = torch.randn(1, prefix + 16, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = {rule: resampled(positions, (4, 4), grid_hw, prefix, rule) for rule in POSITION_RULES}
    for rule in OTHER:
        assert torch.equal(found[rule], upstream(positions, grid_hw, rule, prefix))
    assert torch.equal(found["timm"], upstream(positions, grid_hw, "hub_registers", prefix))
    resample = timm.layers.resample_abs_pos_embed
    assert torch.equal(found["timm"], resample(positions, list(grid_hw), [4, 4], num_prefix_tokens=prefix))
    assert all(value.dtype == dtype for value in found.values())
    for a, b in pairwise(found.values()):
        assert not torch.equal(a, b)


@pytest.mark.parametrize("native", [4, 14, 16, 37])
@pytest.mark.parametrize("new", [1, 7, 24, 32, 100])
def test_every_grid_is_met_in_spite_of_scale_factors(native: int, new: int) -> None:
    positions = torch.zeros(1, native * native + 1, 1)
    assert resampled(positions, (native, native), (new, native + 1), 1, "hub").shape == (1, new * (native + 1) + 1, 1)


def keys_cubic(d: Tensor, a: float) -> Tensor:
    """The kernel of Keys (1981) at distances d."""
    near, far = ((a + 2) * d - (a + 3)) * d * d + 1, a * (((d - 5) * d + 8) * d - 4)
    return torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def test_each_rule_samples_where_its_width_says() -> None:
    row = torch.randn(8, generator=torch.Generator().manual_seed(0))
    cells = torch.arange(3, 9)  # whose four taps lie inside
    for rule, width, a in (("hub", 12.1, -0.75), ("transformers", 12.0, -0.75), ("timm", 12.0, -0.5)):
        taps = keys_cubic(((cells[:, None] + 0.5) * 8 / width - 0.5 - torch.arange(8)).abs(), a)
        found = resampled(row.repeat(8, 1).reshape(1, 64, 1), (8, 8), (8, 12), 0, rule)  # type: ignore[arg-type]
        torch.testing.assert_close(found.reshape(8, 12)[0, cells], taps @ row, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rule", OTHER)
@pytest.mark.parametrize("timm_id", LEARNED)
def test_the_forward_is_timms_with_its_resampling_replaced(
    timm_id: str, rule: PositionRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(posemb: Tensor, new_size: Sequence[int], num_prefix_tokens: int = 1, **_sizes: object) -> Tensor:
        return upstream(posemb, new_size, rule, num_prefix_tokens)

    plain, ruled = tiny(timm_id), follow(tiny(timm_id), rule, "tiny")
    found = {grid: tokens(ruled, grid) for grid in GRIDS}
    default = {grid: tokens(plain, grid) for grid in GRIDS}
    monkeypatch.setattr(sys.modules[type(plain).__module__], "resample_abs_pos_embed", replaced)
    for grid in GRIDS:
        expected = tokens(plain, grid)
        for name in expected.fields:
            assert torch.equal(found[grid][name], expected[name]), name
        assert not torch.allclose(found[grid]["patch"], default[grid]["patch"], atol=1e-3)


@pytest.mark.parametrize("timm_id", LEARNED)
def test_nothing_changes_on_the_native_grid(timm_id: str) -> None:
    expected = tokens(tiny(timm_id), (4, 4))
    for rule in POSITION_RULES:
        found = tokens(follow(tiny(timm_id), rule, "tiny"), (4, 4))
        assert all(torch.equal(found[name], expected[name]) for name in expected.fields)


def test_neither_the_batch_nor_another_dtype_changes_what_is_computed() -> None:
    module = follow(tiny("vit_small_patch14_dinov2"), "hub", "tiny")
    both, one = tokens(module, (3, 5)), tokens(module, (3, 5), n=1)
    torch.testing.assert_close(both["patch"][:1], one["patch"])
    half = view(module).to("cpu", torch.bfloat16)
    coarse = half.tokens(images(1, (42, 70)), TokenRequest(("patch",)), ["0"])["patch"]
    assert coarse.dtype == torch.bfloat16
    torch.testing.assert_close(coarse.float(), one["patch"], atol=0.2, rtol=0.1)


def test_a_copy_resamples_its_own_positions() -> None:
    module = follow(tiny("vit_small_patch16_224"), "hub", "tiny")
    before = tokens(module, (3, 5))["patch"]
    copied = copy.deepcopy(module)
    assert torch.equal(tokens(copied, (3, 5))["patch"], before)
    copied.pos_embed.mul_(2)  # type: ignore[operator]
    assert not torch.allclose(tokens(copied, (3, 5))["patch"], before)
    assert torch.equal(tokens(module, (3, 5))["patch"], before)


def test_a_vit_without_absolute_positions_is_refused() -> None:
    with pytest.raises(NotApplicableError, match=r"'rotary' has no learned absolute positions.*leave out \[position"):
        follow(tiny("vit_small_patch16_dinov3"), "hub", "rotary")


@pytest.mark.parametrize(
    "name, position",
    [
        (TINY, "learned; timm: bicubic, antialias"),
        (f"{SMALL}[position=timm]", "learned; timm: bicubic, antialias (torch.hub: no antialias, offset 0.1)"),
        (TWIN, "learned; timm: bicubic, antialias (torch.hub: antialias, offset 0)"),
        (f"{SMALL}[position=hub]", "learned; torch.hub: bicubic, no antialias, offset 0.1"),
        (f"timm:{TWIN}[position=transformers]", "learned; transformers: bicubic, no antialias"),
        ("timm:vit_tiny_patch16_224", "timm: bicubic, antialias"),
        ("timm:vit_tiny_patch16_224[position=hub]", "torch.hub: bicubic, no antialias, offset 0.1"),
        (
            "eva02_small_patch14_224.mim_in22k[position=hub]",
            "learned; torch.hub: bicubic, no antialias, offset 0.1; RoPE, rescaled to the pretraining grid",
        ),
    ],
)
def test_the_card_says_which_rule_and_that_of_timm_as_ever(name: str, position: str) -> None:
    card = describe_backbone(name, offline=True)[0]
    assert card.position == position  # part of the identity of what was measured before
    assert card.name == name.removesuffix("[position=timm]")


@pytest.mark.parametrize(
    "name, message",
    [
        (f"{TINY}[position=tim]", "position='tim' is not timm or hub or transformers"),
        (f"timm:{TINY}[antialias=no]", "has no parameter 'antialias' - it has position"),
        ("lab_ssl[position=hub]", "'lab_ssl' has no learned positions to resample - it has RoPE in patch units"),
        ("timm:vit_small_patch16_dinov3.lvd1689m[position=hub]", "no learned positions to resample - it has RoPE"),
        ("vit_large_patch16_224.scale_mae[position=hub]", "no learned positions to resample - it has sin-cos"),
    ],
)
def test_rules_that_cannot_be_followed_are_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        expand_backbones(name)


def test_names_are_canonical_in_every_place_of_brackets() -> None:
    assert expand_backbones(f"timm:{SMALL}[position=timm]") == [f"timm:{SMALL}"]
    assert expand_backbones(f"{TINY}[position=hub]+grid") == [f"{TINY}[position=hub]+grid"]
    given = [f"{TINY}@5", f"{TINY}@20"]
    assert expand_backbones(f"{TINY}@*[position=hub]", given) == [f"{name}[position=hub]" for name in given]
    assert expand_backbones(f"{TINY}@*[position=timm]", given) == given
    assert (
        expand_backbones("vit_*_patch14_dinov2.*[position=hub]")[0] == "vit_small_patch14_dinov2.lvd142m[position=hub]"
    )


def planned(folder: Path, names: str, weights: list[str], repairs: str = "none") -> list[CellJob]:
    given = parse_weights(weights)
    filters = Filters.parse(names, repairs, "knn_classification", "scenes", limit=4)
    chosen = choose(None, filters, checkpoints=[name for name, _ in given])
    world = Workspace(RunOptions(records=folder / "runs", cache=folder / "cache", weights=given, offline=True))
    return list(make_plan(chosen.choices, world).cells)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    path = tmp_path / "w.safetensors"
    save_file(timm.create_model("deit_tiny_patch16_224", num_classes=0).state_dict(), path)
    return path


def test_the_rule_is_in_the_record_and_in_the_identity_and_the_file_serves_all(file: Path) -> None:
    names = f"{TINY},{TINY}[position=hub],{TINY}[position=transformers],{TINY}[position=hub]+grid"
    cells = planned(file.parent, names, [f"{TINY}={file}"])
    assert {c.status for c in cells} == {"todo"}
    assert len({c.identity for c in cells}) == len({c.stores["val"] for c in cells}) == 4
    assert [c.components["backbone"]["position"] for c in cells] == [
        "learned; timm: bicubic, antialias",
        *("learned; " + POSITION_RULES[rule] for rule in ("hub", "transformers", "hub")),
    ]
    assert len({c.components["backbone"]["digest"] for c in cells}) == 1


def test_a_series_may_follow_a_rule(file: Path) -> None:
    for step in (3, 40):
        (file.parent / f"m-{step}.safetensors").write_bytes(f"weights {step}".encode())
    cells = planned(file.parent, f"{TINY}@*[position=hub]", [f"{TINY}@{{step}}={file.parent}/m-{{step}}.safetensors"])
    assert [c.slot.backbone for c in cells] == [f"{TINY}@3[position=hub]", f"{TINY}@40[position=hub]"]
    assert {c.components["backbone"]["position"] for c in cells} == {"learned; " + POSITION_RULES["hub"]}
    assert len({c.components["backbone"]["digest"] for c in cells}) == 2


def test_a_series_in_a_suite_does_not_take_the_rules_of_its_records(tmp_path: Path) -> None:
    suite = tmp_path / "mine.toml"
    for brackets in ("", "[position=hub]"):
        suite.write_text(
            f'name = "mine"\n[[select]]\nbackbones = ["{TINY}@*{brackets}"]\ntasks = ["knn_classification"]\n'
            'datasets = ["scenes"]\n'
        )
        entries = tuple(
            SimpleNamespace(slot=Slot(f"{TINY}@5{rule}+grid", "none", "depth@ridge", "scenes", 0))
            for rule in ("", "[position=hub]")
        )
        found = suite_slots(str(suite), Loaded(entries))  # type: ignore[arg-type]
        assert {slot.backbone for slot in found} == {f"{TINY}@5{brackets}"}


def test_the_register_twin_follows_the_same_rule(file: Path) -> None:
    given = [f"{SMALL}={file}", f"{TWIN}={file}"]
    (cell,) = planned(file.parent, f"timm:{SMALL}[position=hub]", given, "registers")
    assert cell.components["backbone"]["name"] == f"{TWIN}[position=hub]"
    assert cell.components["backbone"]["position"] == "learned; " + POSITION_RULES["hub"]


def test_weights_are_named_without_brackets(file: Path) -> None:
    with pytest.raises(UsageError, match="write the name without brackets"):
        parse_weights([f"{TINY}[position=hub]={file}"])
    state = describe_backbone(f"{SMALL}[position=hub]", offline=True)[1]
    assert f"--weights {SMALL}=FILE" in state.remedy


def test_a_backbone_loads_by_its_rule_and_takes_defects(file: Path) -> None:
    request = TokenRequest(("patch", "flags"))
    backbones = [load_backbone(name, weights={TINY: str(file)}) for name in (TINY, f"{TINY}[position=hub]")]
    for side, same in ((224, True), (96, False)):
        a, b = (backbone.tokens(images(1, (side, side)), request, ["a"])["patch"] for backbone in backbones)
        assert torch.equal(a, b) == same
    flawed = plant_all(backbones[1], "outliers")
    assert flawed.card.name == f"{TINY}[position=hub]+outliers"
    assert flawed.tokens(images(1, (96, 96)), request, ["a"])["flags"].any()


def test_show_tells_the_rule(run: Run) -> None:  # noqa: F811
    _, out, _ = run("show", f"timm:{SMALL}[position=hub]")
    assert "position: learned; torch.hub: bicubic, no antialias, offset 0.1" in out
    assert f"register_twin: {TWIN}[position=hub]" in out
    _, out, _ = run("show", TINY)
    assert "params:\n      position: timm" in out
