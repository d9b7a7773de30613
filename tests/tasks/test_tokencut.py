"""TokenCut against its released code, and its eigenvector against the dense generalised solver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import eigh

from vitbench.tasks.tokencut import affinity, cut, second_eigenvector, tokencut_boxes

from .streams import batch

CASE = "raw_tau0.2__"


def dense(weights: np.ndarray) -> np.ndarray:
    degree = np.diag(weights.sum(1))
    vector = eigh(degree - weights, degree, subset_by_index=[1, 1])[1][:, 0]
    return vector / np.linalg.norm(vector)


def test_boxes_equal_the_released_code_where_they_are_determined(shared: Path):
    golden, lost = (np.load(shared / "golden" / f"{name}.npz") for name in ("tokencut", "lost"))
    compared = 0
    for i, ((h, w), (height, width)) in enumerate(zip(lost["dims"], lost["image_sizes"], strict=True)):
        keys = lost["keys_int8"][lost["offsets"][i] : lost["offsets"][i + 1]].astype(np.float32) * lost["key_scale"]
        grid = torch.from_numpy(keys).reshape(1, h, w, -1)
        vector = golden[f"{CASE}eigenvec"][lost["offsets"][i] : lost["offsets"][i + 1]].astype(np.float64)
        ours = cut(grid[0].flatten(0, 1), 0.2).vector
        assert abs(vector / np.linalg.norm(vector) @ ours) == pytest.approx(1, abs=1e-6)
        determined = (
            golden[f"{CASE}seed_candidates_same_component"][i] == 1
            and golden[f"{CASE}min_margin_to_mean"][i] > 1e-6
            and golden[f"{CASE}n_pairs_within_1e-6_of_tau"][i] == 0
        )
        if determined:
            compared += 1
            made = batch({"key": grid}, [{"image_hw": (int(height), int(width))}], 16)
            box = made.tokens.geometry.to_pixels(0, tokencut_boxes(grid, 0.2).boxes[0])[0]
            assert np.array_equal(box, golden[f"{CASE}boxes"][i])
    assert compared >= 10


def made_up_tokens(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    if kind == "groups":  # that hang together by the least weight only: eigenvalues close to one
        return np.eye(5)[rng.integers(0, 5, n)] + 0.02 * rng.normal(size=(n, 5))
    if kind == "loners":
        return np.eye(6)[np.where(rng.random(n) < 0.05, rng.integers(1, 6, n), 0)] + 1e-3 * rng.normal(size=(n, 6))
    if kind == "halves":
        return np.eye(2)[(np.arange(n) < n // 2).astype(int)] + 0.02 * rng.normal(size=(n, 2))
    return rng.normal(size=(n, 4))


@settings(max_examples=100)
@given(
    st.integers(0, 10_000), st.integers(2, 90), st.floats(-0.3, 0.6),
    st.sampled_from(["any", "groups", "loners", "halves"]),
)  # fmt: skip
def test_the_eigenvector_is_that_of_the_dense_generalised_problem(seed: int, n: int, tau: float, kind: str):
    weights = affinity(torch.from_numpy(made_up_tokens(np.random.default_rng(seed), kind, n).astype(np.float32)), tau)
    if weights.min() == weights.max():
        return
    degree = np.diag(weights.sum(1))
    values = eigh(degree - weights, degree, eigvals_only=True)
    found = second_eigenvector(weights)
    quotient = found @ (degree - weights) @ found / (found @ degree @ found)
    assert quotient == pytest.approx(values[1], abs=1e-8)
    assert found @ degree @ np.ones(n) == pytest.approx(0, abs=1e-7 * degree.max())
    if n > 2 and values[2] - values[1] > 1e-3:
        assert abs(found @ dense(weights)) == pytest.approx(1, abs=1e-6)


def test_two_groups_are_told_apart_whichever_is_larger():
    for rows in (2, 5):
        tokens = torch.tensor([1.0, 0.0]).repeat(6, 7, 1)
        tokens[:rows, :3] = torch.tensor([0.0, 1.0])
        found = cut(tokens.flatten(0, 1), 0.2)
        inside = np.zeros((6, 7), bool)
        inside[:rows, :3] = True
        # The smaller side of the cut has the larger entries, so it is the foreground.
        smaller = inside if inside.sum() < 21 else ~inside
        assert np.array_equal(found.foreground.reshape(6, 7), smaller)
    assert tokencut_boxes(tokens[None], 0.2).boxes[0].tolist() == [0, 0, 3, 5]


def test_equal_patches_tie_for_the_seed_and_the_first_is_taken():
    tokens = torch.tensor([1.0, 0.0]).repeat(16, 1)
    tokens[[6, 9, 12]] = torch.tensor([0.0, 1.0])
    assert cut(tokens, 0.2).seed == 6
    assert cut(tokens * 3, 0.2).seed == 6


@pytest.mark.parametrize("hw", [(1, 1), (1, 2), (1, 3), (2, 2)])
def test_the_smallest_grids_have_a_box(hw):
    tokens = torch.randn(1, *hw, 4, generator=torch.Generator().manual_seed(0))
    assert np.isfinite(tokencut_boxes(tokens, 0.2).boxes).all()
    flat = torch.ones(1, *hw, 4)
    assert np.isfinite(tokencut_boxes(flat, 0.2).boxes).all()
