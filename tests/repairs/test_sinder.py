"""Fine-tuning of singular values: what it repairs, where it stops, and when it has nothing to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitbench.backbones.adapters import mlp_parts
from vitbench.backbones.defects import plant_all
from vitbench.backbones.singular import defect_directions
from vitbench.backbones.vit import ViT, card_of
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.singular import SinderTuningParams
from vitbench.errors import NotApplicableError, UsageError
from vitbench.repairs import edit_contract, sinder
from vitbench.repairs.base import State
from vitbench.repairs.compose import build_repair
from vitbench.repairs.defect_walk import Found, Rule, least_flags, survey, walk
from vitbench.repairs.edit_contract import ImageContext, images
from vitbench.repairs.singular_values import tunable, with_weights
from vitbench.tokens.types import TokenRequest


def _loud(registers: int = 0, times: float = 4) -> ViT:
    """A tiny ViT whose planted neuron of block 1 writes so far that the block's direction is its own."""
    module = _module(registers)
    mlp_parts(module.blocks[1]).out.weight[:, 0] *= times
    return ViT(module, card_of(module, BackboneCard("loud", None, "test", "module", 0, 0, 0, 0, 0)))


def _module(registers: int) -> VisionTransformer:
    module = VisionTransformer(
        img_size=48, patch_size=8, embed_dim=32, depth=3, num_heads=2, mlp_ratio=2.0, num_classes=0,
        reg_tokens=registers, dynamic_img_size=True,
    ).eval().requires_grad_(False)  # fmt: skip
    edit_contract._randomise(module, 0)
    edit_contract._plant(ViT(module, card_of(module, BackboneCard("loud", None, "test", "module", 0, 0, 0, 0, 0))), 0)
    return module


def _longest(backbone: ViT) -> Tensor:
    """The longest token of each of 16 new images, in units of its median token; n."""
    tokens = backbone.tokens(images(7, 16), TokenRequest(("patch_raw",)), [str(i) for i in range(16)])
    norms = tokens["patch_raw"].norm(dim=-1).flatten(1)
    return norms.max(1).values / norms.median(1).values


@dataclass
class _Interrupted(ImageContext):
    """A fit that is stopped after it kept something `stops` times."""

    stops: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)

    def resumed(self) -> State:
        return self.kept

    def keep(self, state: State) -> None:
        self.kept = {name: value.clone() for name, value in state.items()}
        self.stops -= 1
        if self.stops == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("registers", [0, 3])
def test_long_tokens_become_as_long_as_others(registers: int) -> None:
    backbone = _loud(registers)
    repair = build_repair("sinder[lr=0.02,epochs=4]")
    state = repair.fit(ImageContext("patch", backbone))
    repaired = repair.edit(backbone, state)
    assert isinstance(repaired, ViT)
    hit = _longest(backbone) > 4
    assert int(hit.sum()) >= 4
    assert float(_longest(repaired)[hit].mean()) < 0.5 * float(_longest(backbone)[hit].mean())
    assert repair.extra_parameters(state) == 0


def test_an_interrupted_fit_goes_on_to_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinder, "KEEP_EVERY", 3)
    repair, backbone = build_repair("sinder[lr=0.02,stop=1]"), _loud()
    whole = repair.fit(ImageContext("patch", backbone))
    context = _Interrupted("patch", backbone, stops=2)
    with pytest.raises(KeyboardInterrupt):
        repair.fit(context)
    assert int(context.kept["step"]) == 6
    resumed = repair.fit(context)
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert torch.equal(value, resumed[key]), key


def test_only_blocks_up_to_the_defective_one_are_trained_and_no_more_than_asked_for() -> None:
    repaired = {
        layers: {key[:8] for key in build_repair(f"sinder[layers={layers}]").fit(ImageContext("patch", _loud()))}
        for layers in (1, 2, 10)
    }
    assert repaired == {1: {"blocks.1"}, 2: {"blocks.0", "blocks.1"}, 10: {"blocks.0", "blocks.1"}}


def test_sound_images_end_the_fit_and_teach_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(sinder, "walk", lambda *_args: seen.append(1) or Found([-1], [None]))
    with pytest.raises(NotApplicableError, match="no step moved a weight"):
        build_repair("sinder[history=8]").fit(ImageContext("patch", _loud()))
    assert len(seen) == 6  # three quarters of the history, which starts as defective


def test_a_step_that_is_not_finite_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = sinder.walk, []

    def broken(*args: Any) -> Found:
        found: Found = real(*args)
        calls.append(1)
        return Found(found.blocks, [None if x is None else x * torch.nan for x in found.losses])

    monkeypatch.setattr(sinder, "walk", broken)
    with pytest.raises(NotApplicableError, match="no gradient was finite"):
        build_repair("sinder").fit(ImageContext("patch", _loud()))
    assert calls


def test_the_gradient_of_a_batch_is_the_mean_over_its_defective_images() -> None:
    tuned, context = tunable(_loud()), ImageContext("patch", _loud())
    params = SinderTuningParams()
    directions = defect_directions(_loud().blocks).float()
    pictures = list(context.pixels())
    rule, share = survey(tuned.view, directions, params, [pictures], context.view)
    assert 0 < share < 1
    together = walk(tuned.view, rule, pictures, context.view)
    expected = sinder._gradients(tuned.shifts, together, 10)
    alone = [walk(tuned.view, rule, [picture], context.view) for picture in pictures]
    assert [one.blocks[0] for one in alone] == together.blocks
    single = [sinder._gradients(tuned.shifts, one, 10) for one in alone if one.blocks[0] >= 0]
    assert share == len(single) / len(pictures)
    for i, gradient in expected.items():
        torch.testing.assert_close(gradient, sum(s[i] for s in single) / len(single), rtol=1e-4, atol=1e-5)


def test_images_take_their_loss_at_their_own_first_defective_block() -> None:
    backbone, context = _loud(), ImageContext("patch", _loud())
    pictures = list(context.pixels())
    directions = defect_directions(backbone.blocks).float()
    never = Rule(directions, SinderTuningParams(), torch.full((3,), 2.0))
    assert walk(backbone, never, pictures, context.view).blocks == [-1] * 16
    low = Rule(directions, SinderTuningParams(), torch.tensor([2.0, 0.9, 0.0]))
    blocks = walk(backbone, low, pictures, context.view).blocks
    assert set(blocks) == {1, 2}


@pytest.mark.parametrize("below", ["grid[site=input]", "grid[site=late]", "variance", "diffusion"])
def test_it_trains_through_the_edits_of_the_view_and_keeps_them(below: str) -> None:
    backbone = plant_all(_loud(), below)
    assert isinstance(backbone, ViT)
    repair = build_repair("sinder[steps=4]")
    state = repair.fit(ImageContext("patch", backbone))
    repaired = repair.edit(backbone, state)
    assert state
    assert isinstance(repaired, ViT)
    assert repaired.edits == backbone.edits
    assert repaired.card == backbone.card


def test_planted_tokens_stay_those_of_the_defective_backbone() -> None:
    backbone = plant_all(_loud(), "outliers")
    assert isinstance(backbone, ViT)
    weights = {"blocks.0.mlp.fc2.weight": torch.zeros(32, 64)}  # what reaches the planted block is another thing
    repaired = with_weights(backbone, weights)
    pictures, request, keys = images(3, 4), TokenRequest(("flags", "patch")), list("abcd")
    expected = backbone.tokens(pictures, request, keys)
    assert bool(expected["flags"].any())
    for view in (repaired, repaired.edited(), with_weights(repaired, weights)):
        found = view.tokens(pictures, request, keys)
        assert torch.equal(found["flags"], expected["flags"])
        assert not torch.equal(found["patch"], expected["patch"])


def test_the_state_of_a_half_precision_backbone_is_kept_in_float32() -> None:
    backbone = _loud()
    backbone.to("cpu", torch.bfloat16)
    repair = build_repair("sinder")
    state = repair.fit(ImageContext("patch", backbone))
    assert {value.dtype for value in state.values()} == {torch.float32}
    repaired = repair.edit(backbone, state)
    assert repaired.dtype == torch.bfloat16
    assert repaired.module is not None
    assert {p.dtype for p in repaired.module.parameters()} == {torch.bfloat16}


def test_least_flags_grow_with_the_grid() -> None:
    assert int(least_flags(0, torch.ones(1, 37, 37))) == 3
    assert int(least_flags(0, torch.ones(1, 6, 6))) == 1
    assert int(least_flags(0, torch.ones(1, 74, 74))) == 12
    assert int(least_flags(5, torch.ones(1, 74, 74))) == 5


@pytest.mark.parametrize("name", ["sinder", "sinder[rule=published,threshold=6]"])
def test_a_backbone_without_defects_is_said_to_have_none(name: str) -> None:
    with pytest.raises(NotApplicableError, match="none of 16 train images is defective"):
        build_repair(name).fit(ImageContext("patch", _loud(times=0)))


def test_one_image_is_too_few() -> None:
    with pytest.raises(NotApplicableError, match="at least 2 train images"):
        build_repair("sinder").fit(ImageContext("patch", _loud(), images=1))


def test_an_activation_without_a_slope_is_refused() -> None:
    backbone = _loud()
    for block in backbone.blocks:
        block.mlp.act = nn.PReLU()  # type: ignore[union-attr]
    with pytest.raises(NotApplicableError, match="activation PReLU"):
        build_repair("sinder").fit(ImageContext("patch", backbone))


def test_what_is_no_vit_is_refused() -> None:
    from vitbench.backbones.load import load_backbone

    context = ImageContext("patch", load_backbone("patch_colour"))  # type: ignore[arg-type]
    with pytest.raises(
        NotApplicableError, match=r"needs the blocks of a ViT of timm.s kind, and .patch_colour. is none"
    ):
        build_repair("sinder").fit(context)


@pytest.mark.parametrize("params", ["kernel=4", "batch=0", "lr=0", "stop=0", "history=0"])
def test_parameters_that_mean_nothing_are_refused(params: str) -> None:
    with pytest.raises(UsageError, match="sinder"):
        build_repair(f"sinder[{params}]")
    assert replace(SinderTuningParams(), batch=2).batch == 2
