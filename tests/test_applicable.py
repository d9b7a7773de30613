"""What a run would answer with "not applicable" is known to the plan, in the same words, wherever cards can tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.backbones.by_hand import images, tiny
from tests.backbones.test_wrap import HubLike
from vitbench.backbones.base import Backbone
from vitbench.backbones.contract import FIELDS
from vitbench.backbones.controls import PatchColour
from vitbench.backbones.defects import plant
from vitbench.backbones.load import load_backbone
from vitbench.backbones.wrap import wrap
from vitbench.catalogue import REPAIRS
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.fields import SUMMARIES, absent
from vitbench.catalogue.resolve import repair_chain
from vitbench.catalogue.suited import no_field, unsuited
from vitbench.choices import Filters, choose
from vitbench.engine.local import run
from vitbench.engine.options import RunOptions
from vitbench.engine.workspace import Workspace
from vitbench.errors import NotApplicableError, UsageError
from vitbench.jobs import BackboneState, CellJob
from vitbench.plan import make_plan
from vitbench.plugins import register
from vitbench.records.store import find
from vitbench.repairs.compose import build_repair
from vitbench.selection import Term
from vitbench.tokens.types import TokenRequest

SIDE = {
    "cls": "vit_small_patch16_224",
    "registers": "vit_small_patch14_reg4_dinov2",
    "bare": "vit_base_patch16_siglip_224",
}


def of_kind(kind: str) -> Backbone:
    if kind == "control":
        return load_backbone("patch_colour")
    if kind == "hidden":
        return wrap(HubLike(tiny(SIDE["registers"]), 4))
    return wrap(tiny(SIDE[kind]))


@pytest.mark.parametrize("kind", ["cls", "registers", "bare", "hidden", "control"])
def test_fields_that_a_backbone_refuses_are_those_that_its_card_denies(kind: str) -> None:
    backbone = of_kind(kind)
    card = backbone.card
    for name in FIELDS:
        reason = absent(name, card.prefix_tokens - card.registers, card.registers, card.blocks)
        said = str(no_field(name, reason, card.name)) if reason and name not in SUMMARIES else ""
        assert _asked(backbone, name) == (said, bool(reason))


def _asked(backbone: Backbone, name: str) -> tuple[str, bool]:
    """What a backbone says when it refuses a field, and whether it has none of it."""
    side = 3 * backbone.card.patch_px
    try:
        given = backbone.tokens(images(1, (side, side)), TokenRequest((name,)), ["a"])[name]
    except NotApplicableError as error:
        return str(error), True
    return "", name in SUMMARIES and not given.shape[1]


@pytest.mark.parametrize(
    "name", [name for name in REPAIRS.names() if REPAIRS.get(name).edits or REPAIRS.get(name).needs_vit]
)
def test_repairs_that_need_a_vit_say_so_on_their_cards(name: str) -> None:
    control, [step] = load_backbone("patch_colour"), repair_chain(name)
    known = unsuited("patch_colour", control.card, (), (step,), ())
    repair, refused = build_repair(name), None
    try:
        repair.edit(control, {}) if step.card.edits else repair.fit(_Context(control))
    except NotApplicableError as error:
        refused = str(error)
    assert refused == (known and str(known))


@pytest.mark.parametrize("name", [name for name in REPAIRS.names() if REPAIRS.get(name).needs_fit])
def test_a_fit_on_fewer_images_than_the_card_asks_for_is_refused_as_planned(name: str) -> None:
    card = REPAIRS.get(name)
    [cell] = planned("lab_ssl", name, "linear_segmentation", limit=max(card.least_images - 1, 1))
    if card.least_images == 1:
        assert cell.status == "todo"
        return
    assert cell.status == "not_applicable"
    with pytest.raises(NotApplicableError, match="is fitted on at least") as refused:
        build_repair(name).fit(_Context(load_backbone("lab_ssl"), card.least_images - 1))
    assert (refused.value.message, refused.value.remedy) == (cell.reason, cell.remedy)


@pytest.mark.parametrize(
    "backbone, defect", [("patch_colour", "grid"), ("position_only", "outliers"), ("bare", "diffusion[source=cls]")]
)
def test_defects_that_cannot_be_planted_are_known(backbone: str, defect: str) -> None:
    plain = of_kind("bare") if backbone == "bare" else load_backbone(backbone)
    name, _, params = defect.rstrip("]").partition("[")
    term = Term(name, tuple(tuple(p.split("=")) for p in params.split(",") if p))  # type: ignore[misc]
    known = unsuited(f"{plain.card.name}+{defect}", plain.card, (), (), (), (term,))
    with pytest.raises(NotApplicableError) as refused:
        plant(plain, term)
    assert str(refused.value) == str(known)


@pytest.mark.parametrize(
    "backbone, chain",
    [
        ("lab_ssl", "maskclip+naclip"), ("lab_ssl", "sparse_attention+clearclip"), ("lab_ssl", "srt+maskclip"),
        ("lab_ssl_entmax", "sclip"), ("lab_ssl_entmax", "sparse_attention"),
    ],
)  # fmt: skip
def test_edits_that_exclude_each_other_are_known(backbone: str, chain: str) -> None:
    pytest.importorskip("entmax")
    view = load_backbone(backbone)
    known = unsuited(backbone, view.card, (), repair_chain(chain), ())
    with pytest.raises(NotApplicableError, match=re.escape(str(known))):
        _edited(view, chain).tokens(images(1, (24, 24)), TokenRequest(("patch",)), ["a"])
    assert unsuited("lab_ssl", load_backbone("lab_ssl").card, (), repair_chain("maskclip+tta_shift"), ()) is None


def _edited(backbone: Backbone, chain: str) -> Backbone:
    for step in chain.split("+"):
        backbone = build_repair(step).edit(backbone, {})
    return backbone


def test_a_pass_in_which_a_field_is_refused_still_serves_the_cells_that_do_not_read_it(tmp_path: Any) -> None:
    """A card made from a bare timm id knows no registers, so only the pass can tell that there are none."""
    backbone = wrap(tiny(SIDE["cls"]), name="unknown")
    bare = replace(backbone.card, prefix_tokens=0, registers=0, embed_dim=0, depth=0)
    options = RunOptions(records=tmp_path / "runs", cache=tmp_path / "cache", workers=0)
    world = Workspace(options)
    world.know("unknown", BackboneState(bare, "ready", backbone.digest))
    asked = (
        "attention_segmentation@registers[image_px=64],rank[image_px=64],linear_segmentation[view=resize,image_px=64]"
    )
    filters = Filters.parse("random_vit", "none,center", asked, "scenes", limit=4)
    plan = make_plan([replace(c, backbone="unknown") for c in choose(None, filters).choices], world)
    run(plan, options, _Deaf(), {"unknown": backbone})
    found = {(c.slot.repair, c.slot.task.partition("@")[0]): _record(options, c) for c in plan.cells}
    assert {key: status for key, (status, _) in found.items()} == {
        ("none", "attention_segmentation"): "not_applicable", ("center", "attention_segmentation"): "not_applicable",
        ("none", "rank"): "ok", ("center", "rank"): "ok",
        ("none", "linear_segmentation"): "ok", ("center", "linear_segmentation"): "ok",
    }  # fmt: skip
    reason = no_field("register_attention", "no register tokens", "unknown")
    assert found["none", "attention_segmentation"][1] == str(reason)


def test_a_card_that_is_not_true_of_its_backbone_is_refused_when_it_is_loaded() -> None:
    def mistaken(card: BackboneCard, weights: Any) -> Backbone:
        return PatchColour(replace(card, blocks="none"), weights)

    mistaken.card = replace(load_backbone("patch_colour").card, name="mistaken", blocks="open")  # type: ignore[attr-defined]
    register(mistaken)
    with pytest.raises(UsageError, match=r"its card says blocks='open'.*has 'none' - correct the card"):
        load_backbone("mistaken")


class _Deaf:
    def started(self, _job: Any) -> None: ...
    def finished(self, _job: Any, _outcome: Any) -> None: ...


class _Context:
    """As much of a fit as its first lines ask for."""

    field, seed = "patch", 0

    def __init__(self, backbone: Backbone, images: int = 100) -> None:
        self._backbone, self.images = backbone, images

    def backbone(self) -> Backbone:
        return self._backbone

    def resumed(self) -> Mapping[str, torch.Tensor]:
        return {}


def planned(backbone: str, repair: str, task: str, limit: int) -> tuple[CellJob, ...]:
    filters = Filters.parse(backbone, repair, task, "scenes", limit=limit)
    return make_plan(choose(None, filters).choices, Workspace(RunOptions())).cells


def _record(options: RunOptions, cell: CellJob) -> tuple[str, str]:
    record = find(options.records, cell.slot, cell.identity)
    assert record is not None
    return record.status, record.reason or ""
