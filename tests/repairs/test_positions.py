"""RASA by training and in closed form: planes that tell positions are found, removed, and nothing else is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vitbench.catalogue.positions import RasaParams, RasaRidgeParams
from vitbench.errors import NotApplicableError, UsageError
from vitbench.repairs import rasa
from vitbench.repairs.compose import build_repair
from vitbench.repairs.contract import SyntheticContext, synthetic_tokens
from vitbench.repairs.planes import extended, places, planes_that_fit, without
from vitbench.repairs.rasa import Stream, train_round
from vitbench.repairs.rasa_ridge import ridge_planes, targets
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import Tokens

CHANNELS = 24


@dataclass
class Placed(SyntheticContext):
    """Noise tokens in which two directions tell row and column, as a ramp or as waves across the image."""

    waves: bool = False

    def tokens(self) -> Iterator[Tokens]:
        for i in range(self.batches):
            yield _tokens(i, self.waves)


def _directions() -> Tensor:
    made = torch.randn(2, CHANNELS, generator=torch.Generator().manual_seed(99))
    return torch.linalg.qr(made.T).Q.T


def _tokens(seed: int, waves: bool = False, n: int = 4, hw: tuple[int, int] = (10, 12)) -> Tokens:
    y, x = torch.meshgrid(*((torch.arange(k) + 0.5) / k for k in hw), indexing="ij")
    ramp = torch.stack((y - 0.5, x - 0.5), dim=-1) * 4
    wave = torch.stack((torch.cos(2 * math.pi * (y + x)), torch.cos(2 * math.pi * (2 * y - x) + 1)), dim=-1) * 2
    noise = torch.randn(n, *hw, CHANNELS, generator=torch.Generator().manual_seed(seed))
    patch = noise + (wave if waves else ramp) @ _directions()
    size = hw[0] * 8, hw[1] * 8
    return Tokens({"patch": patch}, Geometry(8, hw, (Placement(size, size, size),) * n), tuple("abcd"[:n]))


def _told(tokens: Tokens, patch: Tensor) -> float:
    """Share of the variance of row and column that a linear map reads from tokens."""
    x, y = patch.flatten(0, 2).double(), places(tokens).double()
    x, y = x - x.mean(0), y - y.mean(0)
    left = y - x @ torch.linalg.lstsq(x, y).solution
    return float(1 - left.square().sum() / y.square().sum())


@pytest.mark.parametrize("name", ["rasa[rounds=4]", "rasa_ridge[rounds=4]"])
def test_a_linear_map_cannot_tell_the_place_any_more_and_content_stays(name: str) -> None:
    repair = build_repair(name)
    state = repair.fit(Placed("patch", batches=10))
    fresh = _tokens(77, n=4)
    mapped = repair.map(fresh, {"patch": state})["patch"]
    assert _told(fresh, fresh["patch"]) > 0.5
    assert _told(fresh, mapped) < 0.5 * _told(fresh, fresh["patch"])
    basis = state["basis"]
    torch.testing.assert_close(basis @ basis.T, torch.eye(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(mapped @ basis.T, torch.zeros(*mapped.shape[:3], 8), atol=1e-4, rtol=0)
    left = fresh["patch"] - mapped
    torch.testing.assert_close(left, left @ basis.T @ basis, atol=1e-4, rtol=0)


def test_the_first_plane_is_that_of_the_planted_directions() -> None:
    for name in ("rasa[rounds=1]", "rasa_ridge[rounds=1]"):
        basis = build_repair(name).fit(Placed("patch", batches=10))["basis"]
        overlap = torch.linalg.svdvals(basis @ _directions().T)
        assert float(overlap.min()) > 0.95, name


def test_waves_across_the_image_are_nothing_to_row_and_column_but_to_waves() -> None:
    context = Placed("patch", batches=10, waves=True)
    rest = {}
    for text in ("rounds=1", "rounds=1,waves=2,ridge=100"):
        basis = build_repair(f"rasa_ridge[{text}]").fit(context)["basis"]
        rest[text] = float(without(_directions(), basis).norm())
    assert rest["rounds=1"] > 1.3  # of the square root of two
    assert rest["rounds=1,waves=2,ridge=100"] < 0.3


def test_the_ridge_solution_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import Ridge

    x = torch.cat([t["patch"].flatten(0, 2) for t in Placed("patch").tokens()]).double().numpy()
    place = torch.cat([places(t) for t in Placed("patch").tokens()]).double().numpy()
    joint = np.concatenate((x, place - 0.5), axis=1)
    covariance = torch.from_numpy(np.cov(joint.T, bias=True))
    penalty = 0.3
    basis = ridge_planes(covariance, 2, RasaRidgeParams(rounds=1, ridge=penalty))
    weight = Ridge(alpha=penalty * np.trace(np.cov(x.T, bias=True)) / CHANNELS * len(x)).fit(x, place).coef_
    q = np.linalg.qr(weight.T).Q
    np.testing.assert_allclose(np.abs(np.linalg.svd(basis.numpy() @ q).S), 1, atol=1e-9)
    fitted = build_repair(f"rasa_ridge[rounds=1,ridge={penalty}]").fit(Placed("patch"))["basis"]
    torch.testing.assert_close(fitted, basis.float(), atol=1e-4, rtol=0)


def test_a_default_round_comes_near_its_optimum() -> None:
    context = Placed("patch", batches=25)
    stream = Stream(context, 16)
    x, place = (torch.cat(parts) for parts in zip(*stream, strict=True))
    best = torch.zeros(2, CHANNELS, requires_grad=True)
    optimiser = torch.optim.LBFGS([best], max_iter=100, line_search_fn="strong_wolfe")

    def loss(weight: Tensor) -> Tensor:
        return torch.nn.functional.mse_loss((x @ weight.T).sigmoid(), place)

    def step() -> Tensor:
        optimiser.zero_grad()
        value = loss(best)
        value.backward()
        return value

    optimiser.step(step)
    trained = train_round(stream, x.new_zeros(0, CHANNELS), RasaParams())
    start, end = float(loss(torch.zeros(2, CHANNELS))), float(loss(best.detach()))
    assert float(loss(trained)) - end < 0.1 * (start - end)


def test_steps_take_so_many_images_whatever_the_stream_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    context = Placed("patch", batches=3)
    held = Stream(context, 5)
    sizes = [len(x) // 120 for x, _ in held]
    assert sizes == [5, 5, 2]
    assert held.steps == 3
    assert all(a is c for (a, _), (c, _) in zip(held, held, strict=True))
    monkeypatch.setattr(rasa, "ROOM_BYTES", 100_000)
    read = Stream(context, 5)
    list(read)
    for (a, b), (c, d) in zip(held, read, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)
    assert not any(a is c for (a, _), (c, _) in zip(read, read, strict=True))


def test_places_run_from_zero_to_one_over_the_grid_and_skip_padding() -> None:
    tokens = synthetic_tokens(0, n=2, grid_hw=(3, 5), pad=1)
    found = places(tokens)
    assert found.shape == (2 * 3 * 4, 2)
    assert found[:5].tolist() == [[0, 0], [0, 0.25], [0, 0.5], [0, 0.75], [0.5, 0]]
    one = synthetic_tokens(0, n=1, grid_hw=(1, 2))
    assert places(one).tolist() == [[0, 0], [0, 1]]


def test_waves_are_cosines_without_their_constant() -> None:
    place = torch.tensor([[0.0, 0.0], [0.5, 1.0]])
    made = targets(place, 1)
    assert made.shape == (2, 8)
    assert made[0].tolist() == [1] * 8
    np.testing.assert_allclose(made[1].numpy(), [-1, 1, 0, 0, 0, -1, 1, -1], atol=1e-6)


def test_planes_leave_half_of_the_channels_and_no_direction_is_taken_twice() -> None:
    assert planes_that_fit(9, 192) == 9
    assert planes_that_fit(9, 16) == 4
    basis = extended(torch.zeros(0, 3), torch.eye(3)[:2])
    with pytest.raises(NotApplicableError, match="no direction"):
        extended(basis, basis[:1] * 5)
    flat = replace(_tokens(0), fields={"patch": torch.ones(4, 10, 12, CHANNELS)})

    @dataclass
    class Flat(SyntheticContext):
        def tokens(self) -> Iterator[Tokens]:
            yield flat

    with pytest.raises(NotApplicableError, match="no direction"):
        build_repair("rasa_ridge").fit(Flat("patch"))


@pytest.mark.parametrize("name", ["rasa", "rasa_ridge"])
def test_no_rounds_leave_tokens_as_they_are_and_too_few_images_are_said(name: str) -> None:
    repair: Any = build_repair(f"{name}[rounds=0]")
    tokens = _tokens(3)
    mapped = repair.map(tokens, {"patch": repair.fit(Placed("patch"))})
    assert torch.equal(mapped["patch"], tokens["patch"])
    with pytest.raises(NotApplicableError, match="train images"):
        repair.fit(Placed("patch", batches=0))
    with pytest.raises(UsageError, match=name):
        build_repair(f"{name}[rounds=-1]")
