"""Both stages of DVT on tiny ViTs with a pattern planted at every position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.field import FieldBackbone
from vitbench.backbones.vit import ViT
from vitbench.catalogue.denoising import DVT_FIELD, DvtFieldParams, DvtParams
from vitbench.errors import NotApplicableError, UsageError
from vitbench.repairs.base import State
from vitbench.repairs.compose import build_repair
from vitbench.repairs.contract import SyntheticContext
from vitbench.repairs.denoiser import Training
from vitbench.repairs.dvt import Dvt, spread_out
from vitbench.repairs.edit_contract import ImageContext, images, tiny_backbones
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import TokenRequest, Tokens

SMALL = "views=8,steps=30,tokens=64"
BOTH = TokenRequest(("patch", "cls", "norms"))


class Pattern(Edit):
    """Adds the same random vectors to every image's patches."""

    def output(self, x: Tensor, context: EditContext) -> Tensor:
        grid = context.grid(x)
        random = torch.Generator().manual_seed(9)
        return context.with_grid(x, grid + 1.5 * torch.randn(grid.shape[1:], generator=random))


def _tiny() -> ViT:
    return tiny_backbones()["tiny ViT"]


class Counting(ViT):
    """Counts the images that go through."""

    seen: list[tuple[str, ...]] = []  # noqa: RUF012 - set anew in each test

    def _forward(self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Any) -> dict[str, Tensor]:
        type(self).seen.append(tuple(keys))
        return super()._forward(pixels, request, keys, geometry)


def _counting() -> Counting:
    tiny = _tiny()
    Counting.seen = []
    return Counting(tiny.module, tiny.card, tiny.digest)


def _field(backbone: ViT, text: str = SMALL) -> FieldBackbone:
    edited = build_repair(f"dvt_field[{text}]").edit(backbone, {})
    assert isinstance(edited, FieldBackbone)
    return edited


def test_a_field_hangs_on_image_and_key_and_on_nothing_else_of_the_batch() -> None:
    pictures, field_of = images(1), _field(_tiny())
    together = field_of.tokens(pictures, BOTH, ["a", "b", "c", "d"])
    alone = field_of.tokens(pictures[2:3], BOTH, ["c"])
    torch.testing.assert_close(together["patch"][2:3], alone["patch"], rtol=1e-4, atol=1e-4)
    assert torch.equal(alone["patch"], field_of.tokens(pictures[2:3], BOTH, ["c"])["patch"])
    assert not torch.equal(alone["patch"], field_of.tokens(pictures[2:3], BOTH, ["x"])["patch"])
    reseeded = _field(_tiny(), f"{SMALL},seed=1").tokens(pictures[2:3], BOTH, ["c"])
    assert not torch.equal(alone["patch"], reseeded["patch"])


def test_only_patches_change_and_only_they_cost_crops() -> None:
    backbone, pictures = _counting(), images(2, 2)
    plain = _tiny().tokens(pictures, BOTH, ["a", "b"])
    repaired = _field(backbone).tokens(pictures, BOTH, ["a", "b"])
    for name in ("cls", "norms"):
        assert torch.equal(repaired[name], plain[name])
    assert not torch.allclose(repaired["patch"], plain["patch"], atol=0.1)
    assert sum(map(len, Counting.seen)) == 2 * DVT_FIELD.forwards(DvtFieldParams(views=8))
    Counting.seen.clear()
    _field(backbone).tokens(pictures, TokenRequest(("cls",)), ["a", "b"])
    assert Counting.seen == [("a", "b")]


def test_padding_keeps_its_tokens_and_grids_need_not_be_square() -> None:
    request, patch = TokenRequest(("patch",)), 8
    padded = Placement(source_hw=(32, 56), view_hw=(32, 72), content_hw=(32, 56))
    geometry = Geometry(patch, (4, 9), (padded,))
    pixels = torch.randint(0, 256, (1, 3, 32, 72), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    plain, repaired = (b.forward(pixels, geometry, request, ["a"])["patch"] for b in (_tiny(), _field(_tiny())))
    assert torch.equal(repaired[:, :, 7:], plain[:, :, 7:])
    assert bool((repaired[:, :, :7] != plain[:, :, :7]).any(-1).all())


def test_settings_of_the_release_are_reached_by_parameters() -> None:
    pictures, request = images(4, 1), TokenRequest(("patch",))
    outs = [
        _field(_tiny(), f"{SMALL},{more}").tokens(pictures, request, ["a"])["patch"]
        for more in ("coordinates=centres", "coordinates=edges", "share=1.0", "scaled=false", "output=residual_free")
    ]
    for other in outs[1:]:
        assert bool(other.isfinite().all())
        assert not torch.allclose(outs[0], other, atol=1e-3)


def test_tokens_without_artefact_and_residual_are_nearer_to_the_clean_ones() -> None:
    pictures, request = images(5, 1), TokenRequest(("patch",))
    planted = _tiny().edited(Pattern())
    clean, raw = _tiny().tokens(pictures, request, ["a"])["patch"], planted.tokens(pictures, request, ["a"])["patch"]
    text = "views=48,steps=300,tokens=128,share=1.0,output=residual_free"
    freed = _field(planted, text).tokens(pictures, request, ["a"])["patch"]
    assert (freed - clean).square().mean() < 0.6 * (raw - clean).square().mean()


@pytest.mark.parametrize("text", ["views=0", "share=1.5", "steps=-1", "finest=4", "rate=0.0"])
def test_field_settings_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        build_repair(f"dvt_field[{text}]")


class Interrupted(Exception):
    """The machine went down."""


@dataclass
class Keeping(ImageContext):
    """A fit context that remembers what was kept, and stops after so many times."""

    stop_after: int = -1
    states: list[State] = field(default_factory=list)

    def resumed(self) -> State:
        return self.states[-1] if self.states else {}

    def keep(self, state: State) -> None:
        self.states.append({name: value.clone() for name, value in state.items()})
        if len(self.states) == self.stop_after:
            raise Interrupted


PARAMS = DvtParams(targets="tta", steps=20, batch=2)


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_an_interrupted_fit_goes_on_to_the_same_bits(stop_after: int) -> None:
    whole = Dvt(PARAMS).fit(Keeping("patch", _tiny()))
    broken = Keeping("patch", _tiny(), stop_after=stop_after)
    with pytest.raises(Interrupted):
        Dvt(PARAMS).fit(broken)
    counting = _counting()
    resumed = Dvt(PARAMS).fit(Keeping("patch", counting, states=broken.states))
    assert set(resumed) == set(whole)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)
    # 16 images are kept by eights; what has its targets is not looked at again, only its raw tokens are read.
    targets_made = sum(len(keys) for keys in Counting.seen) - 16
    assert targets_made == (8 * 10 if stop_after == 1 else 0)


def test_the_denoiser_brings_unseen_images_nearer_to_the_clean_ones() -> None:
    planted, request = _tiny().edited(Pattern()), TokenRequest(("patch", "cls"))
    repair = build_repair("dvt[targets=tta,steps=200,rate=0.05]")
    states = {"patch": repair.fit(ImageContext("patch", planted))}
    pictures = images(77)
    clean, raw = (b.tokens(pictures, request, ["a", "b", "c", "d"]) for b in (_tiny(), planted))
    mapped = repair.map(raw, states)

    def off(tokens: Tokens) -> float:
        return float((tokens["patch"] - clean["patch"]).square().mean())

    assert off(mapped) < 0.7 * off(raw)
    assert torch.equal(mapped["cls"], raw["cls"])


def test_its_parameters_are_those_of_a_block_and_of_the_positions() -> None:
    repair = build_repair("dvt[targets=tta,steps=1]")
    state = repair.fit(ImageContext("patch", _tiny()))
    width, cells = 32, 36
    block = 12 * width**2 + 13 * width  # attention 4 w^2, MLP 8 w^2, biases 3 + 1 + 4 + 1, two norms 4
    assert repair.extra_parameters(state) == block + cells * width


def test_positions_are_resampled_to_other_grids() -> None:
    repair = build_repair("dvt[targets=tta,steps=1]")
    state = repair.fit(ImageContext("patch", _tiny()))
    wide = _tiny().tokens(images(5, 2, (30, 70)), TokenRequest(("patch",)), ["a", "b"])
    assert repair.map(wide, {"patch": state})["patch"].shape == (2, 4, 9, 32)


def test_fields_teach_by_default_and_another_seed_gives_another_denoiser() -> None:
    repair = build_repair("dvt[images=8,steps=2]")
    first, again = (repair.fit(SyntheticContext("patch")) for _ in range(2))
    other = repair.fit(SyntheticContext("patch", seed=1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["block.mlp.fc1.weight"], other["block.mlp.fc1.weight"])


def test_too_few_images_and_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(NotApplicableError, match="8 train images"):
        build_repair("dvt").fit(SyntheticContext("patch", batches=1))
    for text in ("images=0", "batch=0", "rate=0.0", "steps=-1"):
        with pytest.raises(UsageError):
            build_repair(f"dvt[{text}]")
    with pytest.raises(UsageError, match="divide 16 channels"):
        build_repair("dvt[heads=3,targets=tta]").fit(SyntheticContext("patch", batches=2))
    with pytest.raises(NotApplicableError, match="drop channels"):
        build_repair("remove_high_variance[m=4]+dvt[targets=tta]").fit(SyntheticContext("patch", batches=2))


def test_images_are_taken_from_all_over_a_sorted_split() -> None:
    assert spread_out(10, 4) == [0, 2, 5, 7]
    assert spread_out(3, 8) == [0, 1, 2]


def test_the_rate_is_that_of_the_paper_at_its_batch() -> None:
    published = Training(steps=50_000, batch=128, rate=2e-4, seed=0)
    rates: Iterator[float] = map(published.rate_at, (0, 7_500, 49_999))
    first, top, last = rates
    assert top == pytest.approx(2e-4 * (128 / 256) ** 0.5)
    assert first < 1e-3 * top
    assert last == pytest.approx(1e-6, rel=0.1)
