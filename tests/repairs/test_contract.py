"""Every registered repair keeps the promises of DESIGN 4.2, and the checks notice those that do not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitbench.catalogue import REPAIRS
from vitbench.catalogue.repairs import CENTER, NoParams
from vitbench.repairs.base import FitContext, Repair, State
from vitbench.repairs.compose import build
from vitbench.repairs.contract import CHECKS, ContractError, SyntheticContext, run_checks
from vitbench.selection import parse_chain
from vitbench.tokens.types import Tokens

VARIANTS = (
    "remove_high_variance[m=3]",
    "remove_high_variance[m=3,field=patch]",
    "remove_top_components[k=3]",
    "norm_clip[rule=mad]",
    "fill_outliers[det=norm,block=-2]",
    "center+unit",
    "remove_high_variance[m=4]+zscore+unit",
    "fill_outliers+position_mean+smooth3",
)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", [*REPAIRS.names(), *VARIANTS])
def test_every_repair_keeps_the_contract(name: str, check: str) -> None:
    CHECKS[check](build(parse_chain(name)))


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
    with pytest.raises(ContractError):
        CHECKS[check](broken(NoParams()))


def test_the_synthetic_context_can_be_read_twice_with_the_same_tokens() -> None:
    context = SyntheticContext("patch")
    for a, b in zip(context.tokens(), context.tokens(), strict=True):
        assert torch.equal(a["patch"], b["patch"])
