"""Closed-form ridge against scikit-learn, and its running sums against one go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from vitbench.errors import DataError
from vitbench.heads.moments import Moments
from vitbench.heads.ridge import fit_ridge, log_grid, ridge


def data(n=300, c=7, k=3, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, c)) * np.geomspace(0.1, 30, c) + offset
    y = x @ rng.normal(size=(c, k)) + rng.normal(size=(n, k)) + 5
    return (
        torch.tensor(x, dtype=torch.float32),
        torch.tensor(y, dtype=torch.float32),
        torch.tensor(rng.random(n)).float(),
    )


def moments(x, y, w=None, pieces=1):
    m = Moments.empty(x[:50].mean(0), y.shape[1])
    for i in torch.arange(len(x)).chunk(pieces):
        m.add(x[i], y[i], None if w is None else w[i])
    return m


def sklearn_ridge(x, y, w, lam):
    scaler = StandardScaler().fit(x, sample_weight=w)
    model = Ridge(alpha=lam * w.sum()).fit(scaler.transform(x), y, sample_weight=w)
    return model.predict(scaler.transform(x))


@pytest.mark.parametrize("lam", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("offset", [0.0, 500.0])
def test_equals_scikit_learn_on_standardised_features_with_weights(lam, offset):
    x, y, w = data(offset=offset)
    expected = sklearn_ridge(x.double().numpy(), y.double().numpy(), w.double().numpy(), lam)
    np.testing.assert_allclose(ridge(moments(x, y, w), lam)(x).numpy(), expected, rtol=2e-3, atol=2e-2)


def test_pieces_give_what_one_go_gives_and_weight_one_is_no_weight():
    x, y, _ = data()
    one = ridge(moments(x, y), 0.01)
    many = ridge(moments(x, y, torch.ones(len(x)), pieces=9), 0.01)
    torch.testing.assert_close(one.weight, many.weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.bias, many.bias, rtol=1e-4, atol=1e-4)


def test_held_out_errors_are_those_of_the_predictions_and_the_best_is_refitted_on_all():
    x, y, w = data(n=60, c=20, seed=3)
    part, rest = slice(0, 40), slice(40, 60)
    a, b = Moments.empty(x.mean(0), 3), Moments.empty(x.mean(0), 3)
    a.add(x[part], y[part], w[part])
    b.add(x[rest], y[rest], w[rest])
    fit = fit_ridge(a, b, log_grid(-4, 1, 6))
    for lam, error in fit.errors.items():
        residual = (ridge(a, lam)(x[rest]) - y[rest]).square().sum(1)
        assert error == pytest.approx(float((w[rest] * residual).sum() / w[rest].sum()), rel=1e-3)
    assert fit.errors[fit.lam] == min(fit.errors.values())
    torch.testing.assert_close(fit.head.weight, ridge(a + b, fit.lam).weight)


def test_a_constant_channel_gets_no_weight():
    x, y, _ = data()
    x[:, 2] = 4.0
    head = ridge(moments(x, y), 1e-3)
    assert head.weight[2].abs().max() < 1e-6
    assert torch.isfinite(head(x)).all()


def test_fewer_rows_than_channels_is_solved_by_the_penalty():
    x, y, _ = data(n=10, c=40)
    assert torch.isfinite(ridge(moments(x, y), 1e-6)(x)).all()


def test_no_target_at_all_is_said():
    with pytest.raises(DataError, match="no train token has a target"):
        fit_ridge(Moments.empty(torch.zeros(3), 1), Moments.empty(torch.zeros(3), 1), [0.1])


def test_sums_with_different_shifts_do_not_add_up():
    with pytest.raises(ValueError, match="shifts"):
        Moments.empty(torch.zeros(2), 1) + Moments.empty(torch.ones(2), 1)


def test_the_grid_is_logarithmic_and_ends_where_it_says():
    assert log_grid(-2, 1, 4) == pytest.approx([0.01, 0.1, 1, 10])
