"""Every registered repair keeps the promises of DESIGN 4.2, and the checks notice those that do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT
from vitbench.catalogue import REPAIRS
from vitbench.catalogue.edits import MASKCLIP
from vitbench.catalogue.repairs import CENTER, NoParams
from vitbench.errors import NotApplicableError, RepairError, UnavailableError
from vitbench.repairs import edit_contract
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.compose import build
from vitbench.repairs.contract import CHECKS, SyntheticContext, run_checks
from vitbench.repairs.edit_contract import EDIT_CHECKS, tiny_backbones
from vitbench.repairs.last_block import as_vit
from vitbench.selection import parse_chain
from vitbench.tokens.promises import ContractError
from vitbench.tokens.types import Tokens

VARIANTS = (
    "remove_high_variance[m=3]",
    "remove_high_variance[m=3,field=patch]",
    "remove_top_components[k=3]",
    "norm_clip[rule=mad]",
    "fill_outliers[det=norm,block=-2]",
    "fill_outliers[det=lof]",
    "project_out[det=lof]",
    "unit+sinder_fill",
    "center+unit",
    "remove_high_variance[m=4]+zscore+unit",
    "fill_outliers+position_mean+smooth3",
    "maskclip[output=reduced]",
    "sclip[output=reduced]",
    "clearclip[output=full]",
    "naclip[sigma=1.5]",
    "naclip+center+unit",
    "test_time_registers[top_k=3,variant=released]",
    "test_time_registers[registers=3,rest=mean,scale=0.5]",
    "test_time_registers+naclip",
    "sinder+center+unit",
    "sparse_attention[blocks=2]",
    "naclip+tta_shift[views=3]",
    "rasa_ridge[rounds=2,waves=2,ridge=100.0]+unit",
)


@pytest.mark.parametrize("name", [*REPAIRS.names(), *VARIANTS])
def test_every_repair_keeps_the_contract(name: str) -> None:
    try:
        findings = run_checks(build(parse_chain(name)))
    except UnavailableError as error:
        pytest.skip(str(error))
    assert {finding.check: finding.problem for finding in findings if finding.problem} == {}


class _MixesBatch(Repair[NoParams]):
    card = CENTER

    def fit(self, context: FitContext) -> State:
        return {}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return x - x.mean(dim=0, keepdim=True)


class _CountsPadding(Repair[NoParams]):
    card = CENTER

    def fit(self, context: FitContext) -> State:
        values = [t[context.field].reshape(-1, t[context.field].shape[-1]) for t in context.tokens()]
        return {"mean": torch.cat(values).mean(0)}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return x - state["mean"]


class _ReversesSamples(Repair[NoParams]):
    card = CENTER

    def fit(self, context: FitContext) -> State:
        return {}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return x.flip(0)


class _Random(Repair[NoParams]):
    card = CENTER

    def fit(self, context: FitContext) -> State:
        return {"noise": torch.randn(16)}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return x + state["noise"]


class _WritesInPlace(Repair[NoParams]):
    card = CENTER

    def fit(self, context: FitContext) -> State:
        return {}

    def map_field(self, x: Tensor, state: State, tokens: Tokens, name: str) -> Tensor:
        return x.add_(1)


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (_MixesBatch, "batch_independence"),
        (_CountsPadding, "padding_is_not_content"),
        (_ReversesSamples, "patch_order_and_count"),
        (_Random, "determinism"),
        (_WritesInPlace, "fit_is_left_alone"),
    ],
)
def test_the_checks_find_a_repair_that_breaks_a_promise(broken: type[Repair[NoParams]], check: str) -> None:
    findings = {finding.check: finding.problem for finding in run_checks(broken(NoParams()))}
    assert findings[check]
    with pytest.raises((ContractError, RepairError)):
        CHECKS[check](broken(NoParams()))


class _EditsForward(Repair[NoParams]):
    card = MASKCLIP
    made: Edit

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        assert isinstance(backbone, ViT)
        return backbone.edited(self.made)


class _FirstSampleOnly(_EditsForward):
    class Made(Edit):
        def after_block(self, i: int, x: Tensor, context: EditContext) -> Tensor:
            return torch.cat((x[:1] * 2, x[1:])) if i == context.depth - 1 else x

    made = Made()


class _ChangesEarlyBlocks(_EditsForward):
    class Made(Edit):
        def after_block(self, i: int, x: Tensor, context: EditContext) -> Tensor:
            return x + 1 if i == 1 else x

    made = Made()


class _RegisterAmongPatches(_EditsForward):
    class Made(Edit):
        def output(self, x: Tensor, context: EditContext) -> Tensor:
            return torch.cat((x[:, :-1], x[:, :1]), dim=1)

    made = Made()


class _ChangesWeights(_EditsForward):
    def edit(self, backbone: Backbone, state: State) -> Backbone:
        assert isinstance(backbone, ViT)
        backbone.module.norm.weight.mul_(1.5)  # type: ignore[union-attr, operator]
        return backbone


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (_FirstSampleOnly, "batch_independence"),
        (_ChangesEarlyBlocks, "patch_order_and_count"),
        (_RegisterAmongPatches, "prefix_tokens_are_separate"),
    ],
)
def test_the_checks_find_an_edit_that_breaks_a_promise(broken: type[_EditsForward], check: str) -> None:
    findings = {finding.check: finding.problem for finding in run_checks(broken(NoParams()))}
    assert findings[check]
    assert not findings["determinism"]


def test_the_checks_find_an_edit_that_writes_into_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = edit_contract._modules.__wrapped__()
    monkeypatch.setattr(edit_contract, "_modules", lambda: fresh)
    with pytest.raises(ContractError, match="weight norm"):
        EDIT_CHECKS["backbone_is_left_alone"](_ChangesWeights(NoParams()))


def test_an_edit_is_refused_where_there_is_no_vit_to_edit() -> None:
    class Nothing:
        card = next(iter(tiny_backbones().values())).card

    with pytest.raises(NotApplicableError, match="needs the blocks of a ViT"):
        as_vit(Nothing(), "maskclip")  # type: ignore[arg-type]


def test_the_synthetic_context_can_be_read_twice_with_the_same_tokens() -> None:
    context = SyntheticContext("patch")
    for a, b in zip(context.tokens(), context.tokens(), strict=True):
        assert torch.equal(a["patch"], b["patch"])
