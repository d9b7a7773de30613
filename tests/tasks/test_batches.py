"""What a batch refuses, so that no task measures it: the error names the image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vitbench.errors import DataError, TokensError
from vitbench.tasks.base import Batch

from .streams import scenes_stream


def _batch() -> Batch:
    return scenes_stream(3, "val", 0).batches[0]


def _with(part: Batch, name: str, value: Any) -> Batch:
    return Batch(replace(part.tokens, fields={**part.tokens.fields, name: value}), part.targets)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["patch", "key", "cls", "norms", "registers", "cls_attention"])
def test_a_field_that_is_not_finite_is_named_with_its_image(name: str, value: float) -> None:
    part = _batch()
    bad = part.tokens[name].clone()
    bad[1].view(-1)[3] = value
    with pytest.raises(TokensError, match=f"image 'val-1': field '{name}' is not finite"):
        _with(part, name, bad)


@pytest.mark.parametrize("name", ["patch", "pixels", "flags", "norms", "singular_cosine", "cls"])
def test_a_field_of_another_grid_or_count_is_named(name: str) -> None:
    part = _batch()
    value = part.tokens[name]
    wrong = [value[:2]]
    if name != "cls":
        wrong.append(value[..., :-1] if name in ("norms", "singular_cosine") else value[:, :, :-1])
    for shape in wrong:
        with pytest.raises(TokensError, match=f"field '{name}' has shape"):
            _with(part, name, shape)


def test_large_values_whose_sum_leaves_the_range_are_finite() -> None:
    part = _batch()
    assert _with(part, "patch", torch.full_like(part.tokens["patch"], 1e37)).tokens is not part.tokens


@pytest.mark.parametrize("shape", [(32, 40, 3), (32,), (0, 40)])
@pytest.mark.parametrize("name", ["segmentation", "depth"])
def test_a_target_that_is_no_map_is_named_with_its_image(name: str, shape: tuple[int, ...]) -> None:
    part = _batch()
    targets = [*part.targets[:2], {**part.targets[2], name: np.zeros(shape)}]
    with pytest.raises(DataError, match=f"image 'val-2': {name} has shape"):
        Batch(part.tokens, targets)


def test_fewer_targets_than_images_are_said() -> None:
    part = _batch()
    with pytest.raises(DataError, match="3 images have 2 targets"):
        Batch(part.tokens, part.targets[:2])
