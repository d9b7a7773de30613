"""The linear discriminant against scikit-learn, and the slice of train."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from vitbench.errors import DataError
from vitbench.heads.discriminant import fit_discriminant
from vitbench.heads.holdout import holdout_keys


def test_the_discriminant_equals_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 6, 4)) + rng.normal(size=(6, 4)) * 2 + 30  # images, classes, channels
    shift = torch.tensor(x.mean((0, 1)))
    flat = torch.tensor(x).reshape(-1, 4) - shift
    sums = (torch.tensor(x) - shift).sum(0)
    head = fit_discriminant(sums, torch.full((6,), 50.0).double(), flat.T @ flat, shift.float(), 0.0)
    labels = np.tile(np.arange(6), 50)
    model = LinearDiscriminantAnalysis(solver="lsqr", priors=np.full(6, 1 / 6)).fit(x.reshape(-1, 4), labels)
    expected = model.predict_log_proba(x.reshape(-1, 4))
    found = torch.log_softmax(head(torch.tensor(x).float().reshape(-1, 4)), dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_channels_that_are_constant_within_classes_do_not_break_it():
    sums = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double()
    head = fit_discriminant(sums, torch.ones(2).double(), sums.T @ sums, torch.zeros(2), 0.01)
    assert torch.isfinite(head.weight).all()


def test_classes_of_one_token_each_are_told_apart_by_the_nearest_mean():
    places = torch.cos(torch.arange(40)[:, None] * torch.arange(6) * 0.07)  # a control that shows position alone
    shift = places.mean(0)
    flat = (places - shift).repeat(30, 1)
    sums = 30.0 * (places - shift).double()
    counts = torch.full((40,), 30.0).double()
    head = fit_discriminant(sums, counts, (flat.T @ flat).double(), shift, 0.01)
    assert (head(places).argmax(-1) == torch.arange(40)).all()


def test_the_slice_goes_by_key_and_not_by_order():
    keys = [f"image-{i}" for i in range(50)]
    chosen = holdout_keys(keys, 0.2)
    assert len(chosen) == 10
    assert holdout_keys(keys[::-1], 0.2) == chosen


def test_windows_of_an_image_stay_together():
    keys = [f"image-{i}#{j}" for i in range(10) for j in range(3)]
    chosen = holdout_keys(keys, 0.1)
    assert len(chosen) == 3
    assert len({k.partition("#")[0] for k in chosen}) == 1


def test_both_parts_hold_something_and_one_image_is_refused():
    assert len(holdout_keys(["a", "b"], 0.01)) == len(holdout_keys(["a", "b"], 0.99)) == 1
    with pytest.raises(DataError, match="1 train images"):
        holdout_keys(["a#0", "a#1"], 0.2)
