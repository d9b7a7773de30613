"""The maximal information coefficient against minepy, against every grid, and where its value is known."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import xlogy

from vitbench.catalogue import TASKS
from vitbench.catalogue.tasks.position import PositionMicSettings
from vitbench.errors import UsageError
from vitbench.metrics import measures
from vitbench.tasks.base import Batch
from vitbench.tasks.maximal_information import Grids, maximal_information
from vitbench.tasks.memory import MemoryStream
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import Tokens

from .streams import context

GOLDEN = json.loads(Path(__file__).with_name("mic_golden.json").read_text())


def mic(x, *ys, alpha=0.6, clumps=15):
    y = torch.tensor(np.stack([np.asarray(y, np.float64) for y in ys]))
    return maximal_information(torch.tensor(np.asarray(x, np.float64)), y, Grids(alpha, clumps)).numpy()


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_it_is_what_minepy_gives(case):
    for (alpha, clumps), expected in zip(GOLDEN["settings"], case["mic"], strict=True):
        assert mic(case["x"], case["y"], alpha=alpha, clumps=clumps)[0] == pytest.approx(expected, abs=1e-6)


def information(p, q):
    """Mutual information of two labellings, in nats."""
    joint = np.histogram2d(p, q, (p.max() + 1, q.max() + 1))[0] / len(p)
    return float(xlogy(joint, joint).sum() - sum(xlogy(m, m).sum() for m in (joint.sum(0), joint.sum(1))))


def partitions(values, parts):
    """Every cut of an axis into at most that many parts that keeps equal values together, as labels of the points."""
    levels = np.unique(values)
    for count in range(1, parts + 1):
        for cuts in itertools.combinations(levels[1:], count - 1):
            yield np.searchsorted(np.asarray(cuts), values, side="right")


def even(values, parts):
    """Parts of equal size, for values without ties whose number `parts` divides."""
    return np.argsort(np.argsort(values)) * parts // len(values)


def test_it_is_the_best_of_all_grids_with_one_axis_cut_evenly():
    rng = np.random.default_rng(0)
    for _ in range(2):
        x, y = rng.random(12), rng.random(12)
        best = 0.0
        for equal, free in ((2, 6), (3, 4), (4, 3), (6, 2)):
            for cut, other in ((x, y), (y, x)):
                for parts in range(2, free + 1):
                    scores = (information(even(cut, equal), p) for p in partitions(other, parts))
                    best = max(best, max(scores) / np.log(min(equal, parts)))
        assert mic(x, y, alpha=1.0)[0] == pytest.approx(best, abs=1e-9)


def test_no_grid_at_all_gives_more_than_one_that_is_free_on_both_axes():
    rng = np.random.default_rng(1)
    x, y = rng.random(9), rng.random(9)
    best = max(
        max(information(p, q) for p in partitions(x, a) for q in partitions(y, b)) / np.log(min(a, b))
        for a, b in ((2, 2), (2, 3), (2, 4), (3, 2), (3, 3), (4, 2))
    )
    assert 0 < mic(x, y, alpha=1.0)[0] <= best + 1e-9


def test_a_function_gives_one_a_constant_none_and_noise_less_with_every_token():
    rng = np.random.default_rng(2)
    small, large = np.tile(np.arange(8.0), 8), np.tile(np.arange(20.0), 20)
    known = mic(small, small, -3 * small, np.exp(small), np.ones(64), (small - 3.5) ** 2)
    assert known[:3] == pytest.approx(1, abs=0.01)
    assert known[3] == pytest.approx(0, abs=1e-9)
    assert known[4] > 0.9
    few, many = mic(small, *rng.normal(size=(8, 64))), mic(large, *rng.normal(size=(8, 400)))
    assert many.mean() < few.mean() < 0.5
    assert many.max() < 0.25


def test_it_depends_on_order_alone_and_not_on_the_other_channels():
    rng = np.random.default_rng(3)
    column = np.tile(np.arange(7.0), 7)
    y = np.round(rng.normal(size=(5, 49)) + 0.3 * column, 1)
    together = mic(column, *y)
    assert together == pytest.approx(np.concatenate([mic(column, row) for row in y]))
    assert together == pytest.approx(mic(3 + 2 * column, *np.exp(y)))
    shuffle = rng.permutation(49)
    assert together == pytest.approx(mic(column[shuffle], *y[:, shuffle]))


def stream(make, hw=(32, 48)):
    """Two images of `hw` px, padded to 8 x 12 tokens of 4 px."""
    geometry = Geometry(4, (8, 12), (Placement(hw, (32, 48), hw),) * 2)
    tokens = Tokens({"patch": torch.stack([make(i) for i in range(2)])}, geometry, ("a", "b"))
    return MemoryStream([Batch(tokens, [{}, {}])], "val")


def score(tokens):
    card = TASKS.get("position_mic")
    rows = TASKS.load("position_mic")(card.protocols[0].settings).measure(None, tokens, context())
    return {m.name: float(m.value(rows.sums(), rows.info)) for m in measures(card.metric)}


def test_stripes_are_seen_on_their_axis_and_one_channel_is_enough():
    noise = torch.from_numpy(np.random.default_rng(4).normal(size=(2, 8, 12, 6))).float()

    def stripes(i):
        tokens = noise[i].clone()
        tokens[..., 2] += 10 * torch.arange(12.0)
        return tokens

    striped, plain = score(stream(stripes)), score(stream(lambda i: noise[i]))
    assert striped["MIC_x"] > 0.95 > 0.5 > striped["MIC_y"]
    assert striped["MIC_y"] == plain["MIC_y"]
    assert striped["MIC_mean_channel"] < striped["MIC"]
    assert striped["MIC"] == pytest.approx((striped["MIC_x"] + striped["MIC_y"]) / 2)
    assert score(stream(lambda _: torch.ones(8, 12, 3)))["MIC"] == pytest.approx(0, abs=1e-9)


def test_padding_is_not_a_token():
    inside = torch.from_numpy(np.random.default_rng(5).normal(size=(8, 12, 3))).float()
    padded = stream(lambda _: inside, (26, 42))
    valid = torch.from_numpy(next(iter(padded)).tokens.geometry.valid()[0])
    assert not valid.all()
    changed = torch.where(valid[..., None], inside, 50.0)
    assert score(stream(lambda _: changed, (26, 42))) == score(padded) != score(stream(lambda _: changed))


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.5}, {"clumps": 0}])
def test_settings_without_a_grid_are_told(wrong):
    with pytest.raises(UsageError):
        PositionMicSettings(**wrong)
