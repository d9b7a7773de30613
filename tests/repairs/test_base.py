"""What a repair may make of tokens: anything else fails with its name, never a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vitbench.catalogue.cards import RepairCard
from vitbench.catalogue.repairs import NoParams
from vitbench.errors import RepairError
from vitbench.repairs.base import Repair
from vitbench.repairs.contract import run_checks, synthetic_tokens
from vitbench.repairs.promises import storable

CARD = RepairCard("mine", None, NoParams(), "map", ("patch",), "a test")


def repair(change: Callable[[Tensor], Any]) -> Repair[NoParams]:
    class Mine(Repair[NoParams]):
        card = CARD

        def map_field(self, x: Tensor, state: object, tokens: object, name: str) -> Any:
            return change(x)

    return Mine(NoParams())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x / 0 * 0, "144 of 144 tokens of 'patch' are not finite"),
        (lambda x: torch.where(x >= x.max(), torch.inf, x), "1 of 144 tokens"),
        (lambda x: x.flatten(1, 2), r"\(4, 36, 16\)"),
        (lambda x: x[:, ::2], r"\(4, 3, 6, 16\)"),
        (lambda x: x[..., :0], "one must stay"),
        (lambda x: x.half(), "float16"),
        (lambda x: x.double(), r"return \.to\(x\)"),
        (lambda x: x.to("meta"), "meta"),
        (lambda x: x.numpy(), "ndarray"),
        (lambda _x: None, "NoneType"),
        (lambda x: x.sub_(1), r"x\.clone\(\)"),
    ],
)
def test_what_is_not_tokens_of_the_same_grid_is_refused(change: Callable[[Tensor], Any], words: str) -> None:
    with pytest.raises(RepairError, match=words) as raised:
        repair(change).map(synthetic_tokens(0), {})
    assert "'mine'" in str(raised.value)


def test_fewer_channels_are_tokens() -> None:
    assert repair(lambda x: x[..., :3]).map(synthetic_tokens(0), {})["patch"].shape[-1] == 3


@pytest.mark.parametrize(
    ("state", "words"),
    [(None, "no state"), ({"m": 0.5}, "float for 'm'"), ({"m": torch.tensor([torch.nan])}, "'m' of its fit")],
)
def test_a_fit_that_gives_no_state_is_refused(state: Any, words: str) -> None:
    with pytest.raises(RepairError, match=words):
        storable(state, "mine")


def test_tensors_of_a_state_may_share_memory_and_need_not_be_contiguous() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    kept = storable({"a": x.T, "b": x}, "mine")
    assert torch.equal(kept["a"], x.T)
    assert kept["a"].is_contiguous()
    assert kept["a"].data_ptr() != kept["b"].data_ptr()


class _Remembers(Repair[NoParams]):
    card = RepairCard("remembers", None, NoParams(), "map", ("patch",), "a test", needs_fit=True)

    def fit(self, context: object) -> dict[str, Tensor]:
        self.mean = 1.0
        return {}

    def map_field(self, x: Tensor, state: object, tokens: object, name: str) -> Tensor:
        return x - self.mean


class _Unannounced(Repair[NoParams]):
    card = CARD

    def map_field(self, x: Tensor, state: object, tokens: Any, name: str) -> Any:
        return x / tokens["norms"][:, -1, :, :, None]


class _Raises(Repair[NoParams]):
    card = CARD

    def map_field(self, x: Tensor, state: object, tokens: Any, name: str) -> Tensor:
        return {"a": x}["b"]  # a KeyError


@pytest.mark.parametrize(
    ("broken", "check", "words"),
    [
        (_Remembers, "state_round_trip", "no attribute 'mean'"),
        (_Unannounced, "reads_only_what_the_card_names", "no field 'norms'"),
        (_Raises, "determinism", "KeyError: 'b' (test_base.py:"),
    ],
)
def test_checks_say_what_a_repair_raises_and_where(broken: type[Repair[NoParams]], check: str, words: str) -> None:
    found = {finding.check: finding.problem for finding in run_checks(broken(NoParams()))}
    assert words in found[check]
