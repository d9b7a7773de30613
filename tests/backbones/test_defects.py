"""Planted defects: what each does to a tiny ViT of every kind, and that strength 0 does nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitbench.backbones import calibration
from vitbench.backbones.calibration import generator, spread
from vitbench.backbones.defect_grid import waves
from vitbench.backbones.defects import plant, plant_all
from vitbench.backbones.vit import ViT
from vitbench.catalogue import DEFECTS
from vitbench.errors import NotApplicableError, UsageError
from vitbench.selection import parse_term
from vitbench.tokens.types import TokenRequest, Tokens

from .by_hand import images, tiny, view

FAMILIES = (
    "vit_small_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_giant_patch14_dinov2",
    "vit_small_patch16_dinov3",
)
KINDS = (
    "grid[site=input]", "grid[site=late]", "grid[site=output]", "variance", "outliers", "diffusion", "diffusion[source=cls]",
)  # fmt: skip
FIELDS = ("patch", "patch_raw", "block_0", "key", "norms", "cls", "registers", "flags")


@pytest.fixture(autouse=True)
def _few_calibration_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "IMAGES", 4)


@pytest.fixture(scope="module", params=FAMILIES)
def clean(request: pytest.FixtureRequest) -> ViT:
    return view(tiny(request.param))


def _tokens(v: ViT, hw: tuple[int, int] = (5, 7), n: int = 3, keys: tuple[str, ...] = ("a", "b", "c")) -> Tokens:
    patch = v.card.patch_px
    found = v.tokens(images(n, (hw[0] * patch, hw[1] * patch)), TokenRequest(FIELDS), keys)
    assert isinstance(found, Tokens)
    return found


def _planted(v: ViT, text: str) -> ViT:
    planted = plant_all(v, text)
    assert isinstance(planted, ViT)
    return planted


def _with(text: str, **params: object) -> str:
    term = parse_term(text)
    merged = dict(term.params) | {k: str(v) for k, v in params.items()}
    return f"{term.name}[{','.join(f'{k}={v}' for k, v in merged.items())}]"


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_the_clean_backbone_bit_for_bit_with_the_flags_of_the_planted_one(
    clean: ViT, kind: str
) -> None:
    before = _tokens(clean)
    zero, full = _tokens(_planted(clean, _with(kind, strength=0))), _tokens(_planted(clean, kind))
    for name in FIELDS[:-1]:
        assert torch.equal(zero[name], before[name]), name
    assert torch.equal(zero["flags"], full["flags"])
    assert bool(full["flags"].any())
    assert not torch.equal(full["patch"], before["patch"])
    assert not bool(before["flags"].any())


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_three_gives_what_batches_of_one_give(clean: ViT, kind: str) -> None:
    planted = _planted(clean, kind)
    together = _tokens(planted)
    patch = clean.card.patch_px
    pictures = images(3, (5 * patch, 7 * patch))
    for i, key in enumerate("abc"):
        alone = planted.tokens([pictures[i]], TokenRequest(FIELDS), [key])
        for name in FIELDS:
            torch.testing.assert_close(alone[name][0], together[name][i], atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_planting_is_deterministic_and_leaves_the_given_backbone_alone(clean: ViT, kind: str) -> None:
    before = _tokens(clean)
    torch.manual_seed(1)
    one = _tokens(_planted(clean, kind))
    torch.manual_seed(2)
    two = _tokens(_planted(clean, kind))
    after = _tokens(clean)
    for name in FIELDS:
        assert torch.equal(one[name], two[name]), name
        assert torch.equal(before[name], after[name]), name


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.startswith(("grid[site=input]", "outliers"))])
def test_cls_and_registers_are_left_alone_where_the_defect_is_behind_the_blocks(clean: ViT, kind: str) -> None:
    before, after = _tokens(clean), _tokens(_planted(clean, kind))
    assert torch.equal(before["cls"], after["cls"])
    assert torch.equal(before["registers"], after["registers"])


@pytest.mark.parametrize("site", ["input", "late", "output"])
def test_a_grid_is_the_same_on_every_image_where_it_is_added(clean: ViT, site: str) -> None:
    planted, before = _planted(clean, f"grid[site={site}]"), _tokens(clean)
    added = (
        _tokens(planted)["patch_raw" if site == "late" else "patch"]
        - before["patch_raw" if site == "late" else "patch"]
    )
    if site == "input":
        assert not torch.equal(_tokens(planted)["block_0"], before["block_0"])
        return
    torch.testing.assert_close(added[0], added[1], atol=1e-4, rtol=1e-4)
    assert int(torch.linalg.matrix_rank(added[0].flatten(0, 1), rtol=1e-3)) == 4
    scale = spread(calibration.observe(clean, ("patch_raw" if site == "late" else "patch",)).popitem()[1])
    length = float(added[0].square().sum(-1).mean().sqrt())
    assert length == pytest.approx(DEFECTS.get("grid").params.strength * scale, rel=0.25)


def test_waves_on_a_finer_grid_are_the_same_waves() -> None:
    coarse, fine = waves((8, 8), seed=3), waves((24, 24), seed=3)
    torch.testing.assert_close(fine[1::3, 1::3], coarse)
    assert float(fine.square().sum(-1).mean()) == pytest.approx(1, rel=0.1)


def test_variance_is_noise_of_few_channels_that_depends_on_the_key_alone(clean: ViT) -> None:
    planted, before = _planted(clean, "variance[channels=0.1]"), _tokens(clean)
    added = _tokens(planted)["patch"] - before["patch"]
    hit = added.abs().amax((0, 1, 2)) > 1e-3
    assert int(hit.sum()) == round(0.1 * clean.card.embed_dim)
    deviation = float(calibration.observe(clean, ("patch",))["patch"].flatten(0, 2).std(0).square().mean().sqrt())
    assert float(added[..., hit].std()) == pytest.approx(DEFECTS.get("variance").params.strength * deviation, rel=0.15)
    swapped = _tokens(planted, keys=("b", "a", "c"))["patch"] - before["patch"]
    torch.testing.assert_close(swapped[0], added[1], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(added[0], added[1], atol=1e-2)


def test_full_diffusion_makes_all_patches_of_an_image_one(clean: ViT) -> None:
    planted, before = _tokens(_planted(clean, "diffusion[strength=1]")), _tokens(clean)
    mean = before["patch_raw"].mean((1, 2), keepdim=True).expand_as(before["patch_raw"])
    torch.testing.assert_close(planted["patch_raw"], mean, atol=1e-4, rtol=1e-4)


def test_outliers_are_a_share_of_tokens_of_five_times_the_median_norm_from_the_middle_block_on(
    clean: ViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "IMAGES", 16)
    planted = _planted(clean, "outliers")
    found = calibration.observe(planted, ("norms", "flags"))
    flags, middle = found["flags"].bool(), clean.depth // 2
    assert 0.5 < float(flags.float().mean()) / DEFECTS.get("outliers").params.share < 1.5
    for block in range(clean.depth):
        ratio = found["norms"][:, block] / found["norms"][:, block].median()
        if block >= middle:
            assert float(ratio[flags].min()) >= 5
        else:
            assert float(ratio[flags].max()) < 5


def test_outliers_are_in_the_weights_one_neuron_that_writes_one_direction(clean: ViT) -> None:
    planted = _planted(clean, "outliers")
    middle, before, after = clean.depth // 2, clean.module.state_dict(), planted.module.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert all(name.startswith(f"blocks.{middle}.mlp.fc") for name in changed)
    out = after[f"blocks.{middle}.mlp.fc2.weight"] - before[f"blocks.{middle}.mlp.fc2.weight"]
    assert int((out.abs().amax(0) > 0).sum()) == 1
    raw = f"block_{middle}"
    pictures = images(2, (5 * clean.card.patch_px, 7 * clean.card.patch_px))
    request, keys = TokenRequest((raw, "flags")), ("a", "b")
    written = planted.tokens(pictures, request, keys)
    hit = written["flags"]
    added = (written[raw] - clean.tokens(pictures, request, keys)[raw])[hit]
    singular = torch.linalg.svdvals(added)
    assert float(singular[0] / singular.norm()) > 0.999


def test_outliers_do_not_set_off_prefix_tokens(clean: ViT) -> None:
    class Norms(calibration.Edit):
        largest = 0.0

        def after_block(self, i, x, context):
            if i == clean.depth // 2:
                prefix, patches = x[:, : context.prefix].norm(dim=-1), x[:, context.patch_slice].norm(dim=-1)
                self.largest = max(self.largest, float(prefix.max() / patches.median()))
            return x

    norms = Norms()
    calibration.observe(_planted(clean, "outliers"), ("patch",), norms)
    assert norms.largest < 5


def test_defects_add_up_and_name_the_backbone() -> None:
    clean = view(tiny("vit_small_patch16_224"))
    both = _planted(clean, "grid[site=output]+variance")
    assert both.card.name == "tiny+grid[site=output]+variance"
    assert both.card.register_twin == ""
    assert bool(_tokens(both)["flags"].all())
    assert len(both.edits) == 2


def test_a_planted_backbone_keeps_its_dtype() -> None:
    clean = view(tiny("vit_small_patch16_224"))
    clean.to("cpu", torch.bfloat16)
    assert _tokens(_planted(clean, "outliers"))["patch"].dtype == torch.bfloat16


def test_what_cannot_be_planted_says_so() -> None:
    with pytest.raises(UsageError, match="did you mean grid"):
        plant(view(tiny("vit_small_patch16_224")), parse_term("grids"))
    with pytest.raises(UsageError, match="site='nowhere'"):
        plant_all(view(tiny("vit_small_patch16_224")), "grid[site=nowhere]")
    with pytest.raises(NotApplicableError, match="norm inside"):
        plant_all(view(tiny("eva02_base_patch14_224")), "outliers")
    with pytest.raises(NotApplicableError, match="no CLS"):
        plant_all(view(tiny("vit_base_patch16_siglip_224")), "diffusion[source=cls]")


@pytest.mark.parametrize(
    "text",
    ["grid[strength=-1]", "outliers[share=0]", "outliers[share=0.7]", "variance[channels=2]", "diffusion[strength=2]"],
)
def test_parameters_outside_their_range_are_usage_errors(text: str) -> None:
    with pytest.raises(UsageError):
        plant_all(view(tiny("vit_small_patch16_224")), text)


def test_random_sources_depend_on_every_part() -> None:
    draws = [float(torch.rand(1, generator=generator(*parts))) for parts in (("a", 1), ("a", 2), ("b", 1), ("a", 1))]
    assert draws[0] == draws[3]
    assert len(set(np.round(draws, 9))) == 3
