"""What a fit is given by the engine: the backbone behind earlier edits, images at random, and what it kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from vitbench.backbones.base import Backbone
from vitbench.catalogue import REPAIRS
from vitbench.catalogue.cards import RepairCard
from vitbench.catalogue.repairs import NoParams
from vitbench.records.store import scan
from vitbench.repairs.base import FitContext, Repair, State

SEEN: dict[str, Any] = {}


class Doubled(Repair[NoParams]):
    """An edit: the backbone's tokens, and a mark that it was here."""

    card = RepairCard("doubled", None, NoParams(), "edit", ("*",), "", edits=True, forwards=lambda _params: 2)

    def edit(self, backbone: Backbone, state: State) -> Backbone:
        marked = type(backbone)()
        marked.digest = "doubled"
        return marked


class Counted(Repair[NoParams]):
    """Fitted in three steps, of which it keeps each; it may be stopped behind the second."""

    card = RepairCard("counted", None, NoParams(), "map", ("patch",), "", needs_fit=True)

    def fit(self, context: FitContext) -> State:
        SEEN["backbone"] = context.backbone().digest
        SEEN["pixels"] = [np.array_equal(a, b) for a, b in zip(context.pixels([2, 0]), _at(context, 2, 0), strict=True)]
        start = int(context.resumed().get("steps", torch.zeros(1)).item())
        SEEN["started"] = start
        for step in range(start, 3):
            if step == 2 and SEEN.get("stop"):
                raise RuntimeError("stopped")
            context.keep({"steps": torch.tensor([step + 1.0])})
        return {"steps": torch.tensor([3.0])}

    def extra_parameters(self, state: State) -> int:
        return 41


def _at(context: FitContext, *places: int) -> list[Any]:
    everything = list(context.pixels())
    return [everything[i] for i in places]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    SEEN.clear()
    cards = {c.name: c for c in REPAIRS}
    with pytest.MonkeyPatch.context() as patch:
        for repair in (Doubled, Counted):
            cards[repair.card.name] = repair.card
        patch.setattr(REPAIRS, "_cards", cards)
        loaded = {"doubled": Doubled, "counted": Counted}
        patch.setattr(REPAIRS, "load", lambda name, load=REPAIRS.load: loaded.get(name) or load(name))
        yield


def test_a_map_is_fitted_on_the_backbone_that_edits_before_it_left(bench: Any, counting: Any) -> None:
    _, summary = bench.run(counting(), "doubled+counted", "depth")
    assert {o.status for o in summary.outcomes.values()} == {"ok"}
    assert SEEN["backbone"] == "doubled"


def test_images_at_given_places_are_those_of_the_sweep(bench: Any, counting: Any) -> None:
    bench.run(counting(), "counted", "depth")
    assert SEEN["pixels"] == [True, True]


def test_an_interrupted_fit_goes_on_from_what_it_kept_and_leaves_nothing_behind(bench: Any, counting: Any) -> None:
    SEEN["stop"] = True
    _, summary = bench.run(counting(), "counted", "depth")
    assert "failed" in {o.status for o in summary.outcomes.values()}
    SEEN["stop"] = False
    _, summary = bench.run(counting(), "counted", "depth")
    assert SEEN["started"] == 2
    assert {o.status for o in summary.outcomes.values()} == {"ok"}
    assert [p.suffix for p in bench.options.states.iterdir()] == [".safetensors"]


def test_cost_counts_every_forward_and_what_a_repaired_model_carries(bench: Any, counting: Any) -> None:
    bench.run(counting(), "none,doubled+counted", "depth")
    [plain, repaired] = sorted(scan(bench.options.records)[0], key=lambda r: r.slot.repair != "none")
    assert repaired.cost.forwards == 2 * plain.cost.forwards
    assert (plain.cost.forwards_per_image, repaired.cost.forwards_per_image) == (1, 2)
    assert (plain.cost.extra_parameters, repaired.cost.extra_parameters) == (0, 41)
