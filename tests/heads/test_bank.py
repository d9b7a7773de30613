"""The bank of heads against torch's own batch norm, convolution and AdamW, run one head at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vitbench.heads.bank import HeadBank, Recipe, Schedule

C, K = 6, 4


def batches(n: int, images: int = 3):
    g = torch.Generator().manual_seed(0)
    return [
        (torch.randn(images, 5, 4, C, generator=g) * 2 + 1, torch.randint(0, K, (images, 5, 4), generator=g))
        for _ in range(n)
    ]


def loss_of(y):
    return lambda z: nn.functional.cross_entropy(z, y)


def bank(recipes, schedule, **options) -> HeadBank:
    options = {"norm": True, "seed": 3, "device": torch.device("cpu"), **options}
    return HeadBank(C, K, recipes, schedule, **options)


@pytest.mark.parametrize("norm", [True, False])
def test_every_head_is_what_torch_trains_alone(norm: bool) -> None:
    recipes, schedule = [Recipe(0.1, 1e-2), Recipe(0.01, 0.0)], Schedule("poly", 8, 0.25)
    heads = bank(recipes, schedule, norm=norm, clip=0.5)
    start = heads.state()
    data = batches(8)
    for i, (x, y) in enumerate(data):
        heads.step(x, i, loss_of(y))
    for j, recipe in enumerate(recipes):
        conv = nn.Conv2d(C, K, 1)
        module = nn.Sequential(nn.BatchNorm2d(C), conv) if norm else nn.Sequential(conv)
        with torch.no_grad():
            conv.weight.copy_(start[f"{j}.0"][:, :, None, None])
            conv.bias.zero_()
        optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        for i, (x, y) in enumerate(data):
            warm = 1 - (1 - i / 2) * (1 - 1e-6) if i < 2 else 1
            optimiser.param_groups[0]["lr"] = recipe.learning_rate * warm * (1 - i / 8)
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x.permute(0, 3, 1, 2)), y).backward()
            nn.utils.clip_grad_norm_(module.parameters(), 0.5)
            optimiser.step()
        module.eval()
        x = data[0][0]
        expected = module(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        torch.testing.assert_close(heads.heads()[j](x), expected, atol=1e-4, rtol=1e-4)


def test_heads_do_not_know_of_each_other() -> None:
    schedule, data = Schedule("one_cycle", 5, 0.2), batches(5)
    both, alone = bank([Recipe(0.1, 0.0), Recipe(0.02, 0.1)], schedule), bank([Recipe(0.02, 0.1)], schedule)
    for i, (x, y) in enumerate(data):
        both.step(x, i, loss_of(y))
        alone.step(x, i, loss_of(y))
    torch.testing.assert_close(both.heads()[1].weight, alone.heads()[0].weight)


def test_an_interrupted_bank_goes_on_bit_for_bit() -> None:
    recipes, schedule, data = (
        [Recipe(0.1, 0.0), Recipe(0.01, 0.1)],
        Schedule("one_cycle", 6, 0.3, 0.0, (0.95, 0.85)),
        batches(6),
    )
    whole = bank(recipes, schedule, dropout=0.3)
    for i, (x, y) in enumerate(data):
        whole.step(x, i, loss_of(y))
    first = bank(recipes, schedule, dropout=0.3)
    for i, (x, y) in enumerate(data[:3]):
        first.step(x, i, loss_of(y))
    second = bank(recipes, schedule, dropout=0.3)
    second.restore(first.state())
    for i, (x, y) in enumerate(data[3:], 3):
        second.step(x, i, loss_of(y))
    for a, b in zip(whole.heads(), second.heads(), strict=True):
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(a.bias, b.bias)


def test_schedules_are_those_of_the_recipes() -> None:
    poly = Schedule("poly", 40_000, 0.0375)
    assert poly.factor(0) == pytest.approx(1e-6)
    assert poly.factor(1500) == pytest.approx(1 - 1500 / 40_000)
    assert poly.factor(750) == pytest.approx(0.5 * (1 - 750 / 40_000), rel=1e-4)
    assert poly.factor(40_000) == 0
    plain = Schedule("cosine", 38_400, 1 / 3)
    assert plain.factor(6_400) == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi / 6)), rel=1e-4)
    assert plain.factor(19_200) == pytest.approx(0.5)
    cosine = Schedule("one_cycle", 38_400, 1 / 3, 1e-3, (0.95, 0.85))
    assert cosine.factor(12_800) == pytest.approx(1)
    assert cosine.factor(38_400) == pytest.approx(1e-3)
    assert cosine.factor((12_800 + 38_400) // 2) == pytest.approx(0.5005)
    assert cosine.momentum(0) == pytest.approx(0.95)
    assert cosine.momentum(12_800) == pytest.approx(0.85)
    assert cosine.momentum(38_400) == pytest.approx(0.95)
    assert poly.momentum(5) is None


def test_dropout_takes_whole_channels_of_an_image_and_keeps_the_mean() -> None:
    heads = bank([Recipe(0.1, 0.0)], Schedule("poly", 5, 0.0), dropout=0.5)
    x = torch.ones(400, 2, 2, C)
    dropped = heads._dropped(x, 0)
    assert torch.equal(dropped.amax((1, 2)), dropped.amin((1, 2)))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert float(dropped.mean()) == pytest.approx(1, abs=0.1)
    assert not torch.equal(dropped, heads._dropped(x, 1))


def test_tokens_of_a_frozen_forward_can_be_trained_on() -> None:
    with torch.inference_mode():
        x = torch.randn(2, 3, 3, C)
    heads = bank([Recipe(0.1, 0.0)], Schedule("poly", 5, 0.0), norm=False)
    assert heads.step(x, 0, loss_of(torch.zeros(2, 3, 3, dtype=torch.int64)))
