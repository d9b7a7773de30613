"""Filling flagged tokens from their sound neighbours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import LocalOutlierFactor

from vitbench.catalogue.resolve import repair_chain
from vitbench.errors import NotApplicableError
from vitbench.repairs.compose import build_repair
from vitbench.repairs.contract import SyntheticContext, fit_all, synthetic_tokens
from vitbench.repairs.fill_outliers import filled
from vitbench.repairs.lof import local_outlier_factor
from vitbench.repairs.synthetic_vit import loud_direction
from vitbench.tokens.types import Tokens


def _quiet(tokens: Tokens) -> Tokens:
    return replace(tokens, fields={**tokens.fields, "norms": torch.ones_like(tokens["norms"])})


def test_a_flagged_cell_takes_the_mean_of_its_eight_neighbours() -> None:
    x = torch.arange(25.0).view(1, 5, 5, 1)
    flagged = torch.zeros(1, 5, 5, dtype=torch.bool)
    flagged[0, 2, 2] = True
    x[0, 2, 2] = 1000
    assert filled(x, flagged, ~flagged)[0, 2, 2, 0] == 12


def test_a_region_is_filled_ring_by_ring_from_outside() -> None:
    x = torch.full((1, 7, 7, 2), 3.0)
    flagged = torch.zeros(1, 7, 7, dtype=torch.bool)
    flagged[0, 1:6, 1:6] = True
    x[flagged] = -50
    torch.testing.assert_close(filled(x, flagged, ~flagged), torch.full((1, 7, 7, 2), 3.0))


def test_an_image_of_flagged_cells_only_stays_as_it_is() -> None:
    x, flagged = torch.randn(1, 3, 3, 2), torch.ones(1, 3, 3, dtype=torch.bool)
    assert torch.equal(filled(x, flagged, ~flagged), x)


@pytest.mark.parametrize("det", ["norm", "robust"])
def test_loud_tokens_are_replaced_and_others_are_not(det: str) -> None:
    repair = build_repair(f"fill_outliers[det={det}]")
    states, tokens = fit_all(repair), synthetic_tokens(5)
    loud = tokens["norms"][:, -1] > states["patch"]["threshold"]
    out = repair.map(tokens, states)["patch"]
    assert bool(loud.any())
    assert torch.equal(out[~loud], tokens["patch"][~loud])
    assert float(out[loud].norm(dim=-1).max()) < float(tokens["patch"][loud].norm(dim=-1).min())


def test_no_outlier_among_train_tokens_is_said_not_hidden() -> None:
    with pytest.raises(NotApplicableError, match="nothing to repair"):
        build_repair("fill_outliers").fit(SyntheticContext("patch", change=_quiet))


def test_a_block_that_is_not_there_is_named() -> None:
    with pytest.raises(NotApplicableError, match="block=7 of 3"):
        build_repair("fill_outliers[block=7]").fit(SyntheticContext("patch"))


@pytest.mark.parametrize(("n", "channels", "k"), [(60, 8, 20), (90, 1, 1), (140, 1, 5), (30, 2, 50), (2, 3, 20)])
@pytest.mark.parametrize(("scale", "away"), [(1.0, 0.0), (1e-3, 0.0), (50.0, 1000.0)])
def test_the_local_outlier_factor_is_that_of_scikit_learn(
    n: int, channels: int, k: int, scale: float, away: float
) -> None:
    x = torch.randn(n, channels, generator=torch.Generator().manual_seed(0)) * scale + away
    x[: n // 15] *= 6
    fitted = LocalOutlierFactor(n_neighbors=min(k, n - 1), algorithm="brute").fit(x.double().numpy())
    np.testing.assert_allclose(local_outlier_factor(x, k), -fitted.negative_outlier_factor_, rtol=1e-4)


def test_few_or_equal_tokens_have_a_finite_factor() -> None:
    assert local_outlier_factor(torch.ones(1, 3)).tolist() == [1]
    assert local_outlier_factor(torch.ones(30, 3)).tolist() == [1] * 30


def test_tokens_far_from_all_others_of_their_image_are_replaced() -> None:
    repair = build_repair("fill_outliers[det=lof]")
    states, tokens = fit_all(repair), synthetic_tokens(5)
    loud = tokens["patch"].norm(dim=-1) > 60
    out = repair.map(tokens, states)["patch"]
    assert bool(loud.any())
    assert bool((out != tokens["patch"]).any(-1)[loud].all())
    assert 0.01 < float((out != tokens["patch"]).any(-1).float().mean()) < 0.15


def test_the_singular_detector_flags_what_sinder_fill_fills() -> None:
    ours, theirs = build_repair("fill_outliers[det=singular]"), build_repair("sinder_fill")
    tokens = synthetic_tokens(5)
    a, b = ours.map(tokens, fit_all(ours)), theirs.map(tokens, fit_all(theirs))
    for name in ("patch", "patch_raw", "key"):
        assert not torch.equal(a[name], tokens[name])
        torch.testing.assert_close(a[name], b[name])


@pytest.mark.parametrize(("det", "read"), [("robust", ("norms",)), ("lof", ()), ("singular", ("patch_raw",))])
@pytest.mark.parametrize("name", ["fill_outliers", "project_out"])
def test_a_detector_asks_only_for_the_fields_it_reads(name: str, det: str, read: tuple[str, ...]) -> None:
    [step] = repair_chain(f"{name}[det={det}]")
    assert step.needs == read


def test_project_out_takes_the_direction_of_tokens_along_a_singular_direction() -> None:
    repair = build_repair("project_out[det=singular]")
    states, tokens = fit_all(repair), synthetic_tokens(5)
    torch.testing.assert_close(
        states["patch_raw"]["direction"].dot(loud_direction()).abs(), torch.tensor(1.0), atol=0.02, rtol=0
    )
    along = (repair.map(tokens, states)["patch_raw"] @ states["patch_raw"]["direction"]).abs().max()
    assert float(along) < 1e-3
