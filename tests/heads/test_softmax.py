"""Logistic regression over blocks against scikit-learn and a gradient taken by differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from vitbench.errors import DataError
from vitbench.heads.softmax import fit_softmax


def rows(n: int = 300, c: int = 6, k: int = 4, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, generator=g)
    labels = (x @ torch.randn(c, k, generator=g) + torch.randn(n, k, generator=g)).argmax(1)
    return x, labels, torch.nn.functional.one_hot(labels, k).float()


def test_every_penalty_gives_the_minimum_of_scikit_learn() -> None:
    x, labels, y = rows()
    grid = [1e-3, 1.0, 100.0]
    fit = fit_softmax(
        lambda: [(x[:100], y[:100], torch.ones(100)), (x[100:], y[100:], torch.ones(200))], 4, grid, 500, 1e-6
    )
    assert fit.unconverged == 0
    for c, head in zip(grid, fit.heads, strict=True):
        model = LogisticRegression(C=c, tol=1e-8, max_iter=2000).fit(x.numpy(), labels.numpy())
        np.testing.assert_allclose(head(x).softmax(1), model.predict_proba(x.numpy()), atol=2e-3)


def test_soft_labels_and_weights_equal_repeated_rows() -> None:
    x, labels, y = rows(60)
    other = torch.nn.functional.one_hot((labels + 1) % 4, 4).float()
    soft = fit_softmax(lambda: [(x, 0.75 * y + 0.25 * other, torch.full((60,), 4.0))], 4, [1.0], 500, 1e-6)
    copies = torch.cat([x, x, x, x]), torch.cat([y, y, y, other]), torch.ones(240)
    hard = fit_softmax(lambda: [copies], 4, [1.0], 500, 1e-6)
    torch.testing.assert_close(soft.heads[0](x).softmax(1), hard.heads[0](x).softmax(1), atol=1e-3, rtol=0)


def test_a_class_without_rows_is_never_predicted() -> None:
    x, _, y = rows()
    padded = torch.cat([y[:, :2], torch.zeros(len(y), 1), y[:, 2:]], 1)
    [head] = fit_softmax(lambda: [(x, padded, torch.ones(len(x)))], 5, [1.0], 300, 1e-5).heads
    assert not (head(x).argmax(1) == 2).any()
    [plain] = fit_softmax(lambda: [(x, y, torch.ones(len(x)))], 4, [1.0], 300, 1e-5).heads
    torch.testing.assert_close(head.weight[:, [0, 1, 3, 4]], plain.weight, atol=1e-3, rtol=0)


def test_a_warm_start_ends_at_the_same_minimum() -> None:
    x, _, y = rows()
    blocks = [(x, y, torch.ones(len(x)))]
    cold = fit_softmax(lambda: blocks, 4, [1.0], 500, 1e-6).heads[0]
    warm = fit_softmax(
        lambda: blocks, 4, [1.0], 500, 1e-6, start=fit_softmax(lambda: blocks, 4, [50.0], 20, 1e-6).heads[0]
    )
    torch.testing.assert_close(warm.heads[0].weight, cold.weight, atol=2e-3, rtol=0)


def test_the_iteration_limit_is_said_and_one_class_is_refused() -> None:
    x, _, y = rows()
    assert fit_softmax(lambda: [(x, y, torch.ones(len(x)))], 4, [1.0, 10.0], 1, 1e-9).unconverged == 2
    with pytest.raises(DataError, match="one class"):
        fit_softmax(lambda: [(x, torch.eye(4)[:1].expand(len(x), 4), torch.ones(len(x)))], 4, [1.0], 10, 1e-4)
