"""Chains of repairs: fitted in order, states kept apart, cards joined."""

from __future__ import annotations

import pytest
import torch

from vitbench.catalogue import REPAIRS
from vitbench.catalogue.cards import RepairCard
from vitbench.catalogue.repairs import NONE, RANDOM_DIMS, REMOVE_HIGH_VARIANCE, RemoveHighVarianceParams, kinds
from vitbench.errors import UsageError
from vitbench.repairs.base import Repair
from vitbench.repairs.compose import build_repair
from vitbench.repairs.contract import fit_all, synthetic_tokens


def test_the_second_repair_is_fitted_on_what_the_first_gives() -> None:
    repair = build_repair("unit+center")
    states, tokens = fit_all(repair), synthetic_tokens(9)
    out = repair.map(tokens, states)["patch"]
    unit = tokens["patch"] / tokens["patch"].norm(dim=-1, keepdim=True)
    torch.testing.assert_close(out, unit - states["patch"]["1.mean"])
    assert float(states["patch"]["1.mean"].norm()) < 1


def test_states_are_named_by_the_place_in_the_chain() -> None:
    assert set(fit_all(build_repair("center+unit+zscore"))["key"]) == {"0.mean", "2.mean", "2.sd"}


def test_a_chain_after_removed_channels_is_fitted_on_those_left() -> None:
    assert fit_all(build_repair("remove_high_variance[m=6]+zscore"))["patch"]["1.sd"].shape == (10,)


def test_the_card_of_a_chain_joins_what_the_plan_must_know() -> None:
    card = build_repair("fill_outliers+center").card
    assert card.name == "fill_outliers+center"
    assert card.needs == ("norms",)
    assert card.needs_fit
    assert "cls" in card.acts_on
    assert not card.edits
    assert build_repair("registers+unit").card.swaps == "register_twin"


def test_what_changes_the_forward_cannot_follow_a_map_of_tokens() -> None:
    with pytest.raises(UsageError, match=r"registers\+center"):
        build_repair("center+registers")


def test_a_parameter_narrows_the_kinds_a_repair_acts_on() -> None:
    assert kinds(REMOVE_HIGH_VARIANCE, RemoveHighVarianceParams(field="key")) == ("key",)
    assert kinds(RANDOM_DIMS, RANDOM_DIMS.params) == RANDOM_DIMS.acts_on


@pytest.mark.parametrize("name", REPAIRS.names())
def test_every_card_leads_to_a_repair_with_that_card(name: str) -> None:
    repair = build_repair(name)
    assert isinstance(repair, Repair)
    assert repair.card is REPAIRS.get(name)
    assert repair.card.summary
    assert repair.card.cost


@pytest.mark.parametrize("card", list(REPAIRS), ids=lambda card: card.name)
def test_every_card_says_where_it_comes_from_what_differs_and_what_it_costs(card: RepairCard) -> None:
    assert card.summary
    assert card.cost
    assert card.differs or card is NONE
    assert bool(card.source) == bool(card.upstream_licence) == bool(card.published_for)
