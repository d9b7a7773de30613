"""Shipped backbones and every family keep what `vitbench check backbone` asks, and each check finds who does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitbench.backbones.base import Backbone
from vitbench.backbones.contract import CHECKS, GRID, run_checks
from vitbench.backbones.controls import PatchColour
from vitbench.backbones.defects import plant_all
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.load import load_backbone
from vitbench.backbones.vit import ViT
from vitbench.backbones.wrap import wrap
from vitbench.catalogue.weights import describe_backbone
from vitbench.errors import UnavailableError
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.types import TokenRequest

from .by_hand import FAMILIES, tiny
from .test_wrap import DinoLike, HubLike, HuggingFaceLike

SHIPPED = ("patch_colour", "position_only", "random_vit[patch_px=14]", "lab_ssl", "lab_ssl_reg4", "lab_ssl_entmax")


def broken(load: Callable[[], Backbone]) -> dict[str, str]:
    return {finding.check: finding.problem for finding in run_checks(load) if finding.problem}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_backbones_keep_every_promise(name: str) -> None:
    assert broken(partial(load_backbone, name)) == {}


@pytest.mark.parametrize("timm_id", FAMILIES)
def test_every_family_keeps_every_promise(timm_id: str) -> None:
    assert broken(lambda: wrap(tiny(timm_id))) == {}


@pytest.mark.parametrize("kind", [HuggingFaceLike, HubLike, DinoLike])
def test_modules_of_other_makes_keep_every_promise(kind: type[nn.Module]) -> None:
    told = {"prefix_tokens": 5} if kind is DinoLike else {}
    found = broken(lambda: wrap(kind(tiny("vit_small_patch14_reg4_dinov2"), 4), **told))
    assert set(found) <= {"half_precision"}, found  # the stand-ins hide their ViT from `.to`


@pytest.mark.parametrize("defect", ["grid", "variance"])
def test_a_planted_defect_keeps_every_promise(defect: str) -> None:
    assert broken(lambda: plant_all(wrap(tiny("vit_small_patch14_dinov2")), defect)) == {}


def test_weights_that_are_not_here_are_no_broken_promise() -> None:
    with pytest.raises(UnavailableError):
        run_checks(partial(load_backbone, "vit_large_patch16_224.scale_mae"))


# -- each check can fail -----------------------------------------------------------------------------------------------

Fields = dict[str, Tensor]


class Mine(PatchColour):
    """A backbone that breaks something of what it is given to `spoil`."""

    def __init__(self, spoil: Callable[[Fields, Sequence[str], Backbone], Fields]) -> None:
        card, weights = describe_backbone("patch_colour")
        super().__init__(card, weights)
        self.spoil, self.digest = spoil, "0" * 16

    def _forward(
        self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Geometry
    ) -> dict[str, Tensor]:
        return self.spoil(super()._forward(pixels, request, keys, geometry), keys, self)


def patches(change: Callable[[Tensor, Sequence[str]], Tensor], *names: str) -> Callable[..., Fields]:
    """Changes one or some of the fields, where they are asked for."""

    def spoil(fields: Fields, keys: Sequence[str], _backbone: Backbone) -> Fields:
        return {k: change(x, keys) if k in (names or ("patch",)) else x for k, x in fields.items()}

    return spoil


def along_batch(values: Any, x: Tensor) -> Tensor:
    return x + torch.as_tensor(values, dtype=x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def only_one_grid(x: Tensor, _keys: Sequence[str]) -> Tensor:
    if tuple(x.shape[1:3]) != GRID:
        raise ValueError(f"made for {GRID}")
    return x


loads = count()
calls = count()
SPOILED: dict[str, Callable[..., Fields]] = {
    "fields_are_given_or_refused": lambda fields, *_: {k: x for k, x in fields.items() if k != "query"},
    "shapes_are_those_of_the_card": patches(lambda x, _: torch.cat((x, x), -1)),
    "fields_agree_with_each_other": patches(lambda x, _: 2 * x, "norms"),
    "one_forward_serves_all_fields": lambda fields, *_: {k: x + (len(fields) > 1) for k, x in fields.items()},
    "patches_are_in_their_places": patches(lambda x, _: x.transpose(1, 2).reshape(x.shape), "patch_embed"),
    "batch_independence": patches(lambda x, _: x - x.mean(0)),
    "order_of_the_batch": patches(lambda x, _: along_batch(range(len(x)), x)),
    "keys_do_not_matter": patches(lambda x, keys: along_batch([ord(key[0]) for key in keys], x)),
    "determinism": patches(lambda x, _: x + torch.randn(x.shape)),
    "other_sizes": patches(only_one_grid),
    "half_precision": patches(lambda x, _: x + 9 * (x.dtype == torch.bfloat16)),
}


@pytest.mark.parametrize("check", SPOILED)
def test_each_check_finds_a_backbone_that_breaks_its_promise(check: str) -> None:
    assert check in broken(lambda: Mine(SPOILED[check]))


def test_tokens_that_are_not_finite_are_found() -> None:
    found = broken(lambda: Mine(patches(lambda x, _: x / 0, "key")))
    assert "field 'key' is not finite" in found["fields_are_given_or_refused"]


def test_a_backbone_that_counts_its_forwards_is_found() -> None:
    assert "determinism" in broken(lambda: Mine(patches(lambda x, _: x + next(calls))))


def test_weights_that_are_drawn_anew_at_each_load_are_found() -> None:
    def load() -> Backbone:
        number = next(loads)
        return Mine(patches(lambda x, _: x + number))

    assert set(broken(load)) == {"loading_again_gives_the_same", "half_precision"}


def test_what_a_plugin_raises_is_told_with_its_place() -> None:
    assert (
        f"ValueError: made for {GRID} (test_contract.py:" in broken(lambda: Mine(patches(only_one_grid)))["other_sizes"]
    )


class Learning(Mine):
    """Its module learns from what it sees, or drops tokens while it trains."""

    def __init__(self, learns: bool) -> None:
        super().__init__(lambda fields, *_: fields)
        self.learns, self.module = learns, nn.Linear(2, 2)

    def _forward(self, pixels: Tensor, *args: Any) -> dict[str, Tensor]:
        assert self.module is not None
        if self.learns:
            self.module.weight.data += 1
        return {k: x * (1 + self.module.training) for k, x in super()._forward(pixels, *args).items()}


@pytest.mark.parametrize("learns", [True, False])
def test_a_forward_that_learns_or_that_trains_is_found(learns: bool) -> None:
    said = broken(lambda: Learning(learns))["the_module_is_left_alone"]
    assert ("changes weights" if learns else "while the module is training") in said


class Louder(Edit):
    def output(self, x: Tensor, context: EditContext) -> Tensor:
        return 2 * x


class Eager(ViT):
    """Edits on its own account."""

    def edited(self, *edits: Edit, **others: Any) -> ViT:
        return super().edited(*edits, Louder(), **others)


def test_a_view_that_edits_more_than_it_is_told_is_found() -> None:
    def load() -> Backbone:
        view = wrap(tiny("vit_small_patch14_dinov2"))
        return Eager(view.module, view.card, view.digest)  # type: ignore[arg-type]

    assert set(broken(load)) == {"an_edit_that_edits_nothing_changes_nothing"}


def test_a_wrong_card_is_found() -> None:
    def load(**wrong: int) -> Backbone:
        backbone = wrap(tiny("vit_small_patch14_reg4_dinov2"))
        backbone.card = replace(backbone.card, **wrong)
        return backbone

    for wrong in ({"embed_dim": 384}, {"depth": 12}, {"registers": 0}):
        assert "shapes_are_those_of_the_card" in broken(partial(load, **wrong))
    assert "fields_agree_with_each_other" in broken(partial(load, prefix_tokens=4))


def test_every_check_has_a_backbone_that_breaks_it() -> None:
    others = {"loading_again_gives_the_same", "the_module_is_left_alone", "an_edit_that_edits_nothing_changes_nothing"}
    assert {*SPOILED, *others} == set(CHECKS)
