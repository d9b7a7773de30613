"""What algorithms refuse before they would be silently wrong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vitbench.errors import TokensError
from vitbench.heads.knn import Neighbours, unit
from vitbench.tasks.lost import lost_boxes
from vitbench.tasks.propagation import Propagator, Rule
from vitbench.tasks.tokencut import tokencut_boxes
from vitbench.tokens.checks import checked


def _follow(tokens: Tensor) -> Tensor:
    return Propagator(tokens[0], torch.ones(2, 2, 1), Rule()).step(tokens[0])


ALGORITHMS = {
    "lost": lost_boxes,
    "tokencut": lambda x: tokencut_boxes(x, 0.2),
    "propagation": _follow,
    "neighbours": lambda x: Neighbours(x[0].flatten(0, 1)).search(torch.ones(1, 3), 1),
    "queries": lambda x: Neighbours(torch.ones(4, 3)).search(x[0].flatten(0, 1), 1),
}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_tokens_that_are_not_finite_are_one_clear_error(name: str, value: float) -> None:
    tokens = torch.ones(1, 2, 2, 3)
    tokens[0, 1, 0, 2] = value
    with pytest.raises(TokensError, match="not finite"):
        ALGORITHMS[name](tokens)


@pytest.mark.parametrize("shape", [(2, 2, 3), (0, 2, 2, 3), (1, 0, 2, 3), (1, 2, 2, 0)])
@pytest.mark.parametrize("name", ["lost", "tokencut"])
def test_tokens_of_another_shape_are_one_clear_error(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(TokensError, match=r"axes are b h w c"):
        ALGORITHMS[name](torch.ones(shape))


def test_an_empty_memory_and_queries_of_another_width_are_said() -> None:
    with pytest.raises(TokensError, match="none of them empty"):
        Neighbours(torch.ones(0, 3))
    with pytest.raises(TokensError, match="4 channels are searched among vectors of 3"):
        Neighbours(torch.ones(2, 3)).search(torch.ones(2, 4), 1)


def test_frames_of_another_grid_or_width_are_said() -> None:
    for shape in ((2, 3, 3), (2, 2, 4)):
        video = Propagator(torch.ones(2, 2, 3), torch.ones(2, 2, 1), Rule())
        with pytest.raises(TokensError, match="one size"):
            video.step(torch.ones(shape))
    with pytest.raises(TokensError, match="one size"):
        Propagator(torch.ones(2, 2, 3), torch.ones(3, 2, 1), Rule())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_what_its_values_give_in_full(dtype: torch.dtype) -> None:
    half = (torch.randn(2, 7, 9, 16, generator=torch.Generator().manual_seed(0)) + 0.4).to(dtype)
    for find in (lost_boxes, ALGORITHMS["tokencut"]):
        assert find(half).boxes.tolist() == find(half.float()).boxes.tolist()
    flat = half.flatten(0, 2)
    found, expected = (Neighbours(unit(x)).search(unit(x), 5)[1] for x in (flat, flat.float()))
    assert torch.equal(found, expected)
    labels = torch.rand(7, 9, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(*(Propagator(x[0], labels, Rule()).step(x[1]) for x in (half, half.float())))


def test_double_precision_stays() -> None:
    assert checked(torch.ones(2, 3, dtype=torch.float64), "n c", "tokens").dtype == torch.float64
    assert checked(torch.ones(2, 3, dtype=torch.int32), "n c", "tokens").dtype == torch.float32
