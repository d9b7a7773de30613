"""Each repair against its formula written out with numpy (specs: repairs 4 and 6e)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitbench.errors import NotApplicableError, UsageError
from vitbench.repairs.compose import build_repair
from vitbench.repairs.contract import SyntheticContext, fit_all, synthetic_tokens
from vitbench.repairs.position_mean import resampled
from vitbench.tokens.types import Tokens


def _stack(context: SyntheticContext) -> np.ndarray:
    values = []
    for tokens in context.tokens():
        x = tokens[context.field]
        values.append(x if x.ndim == 2 else x[torch.from_numpy(tokens.geometry.valid())])
    return torch.cat(values).double().numpy()


@pytest.fixture
def train() -> np.ndarray:
    return _stack(SyntheticContext("patch", pad=1))


@pytest.fixture
def tokens() -> Tokens:
    return synthetic_tokens(77, pad=1)


def _mapped(name: str, tokens: Tokens, field: str = "patch", pad: int = 1) -> np.ndarray:
    repair = build_repair(name)
    return repair.map(tokens, fit_all(repair, pad=pad))[field].double().numpy()


def test_center_subtracts_the_mean_of_train_tokens(tokens: Tokens, train: np.ndarray) -> None:
    np.testing.assert_allclose(_mapped("center", tokens), tokens["patch"].numpy() - train.mean(0), atol=1e-4)


def test_center_of_cls_uses_the_mean_of_cls(tokens: Tokens) -> None:
    cls = _stack(SyntheticContext("cls", pad=1))
    np.testing.assert_allclose(_mapped("center", tokens, "cls"), tokens["cls"].numpy() - cls.mean(0), atol=1e-4)


def test_zscore_divides_by_the_deviation_plus_a_millionth(tokens: Tokens, train: np.ndarray) -> None:
    expected = (tokens["patch"].double().numpy() - train.mean(0)) / (train.std(0) + 1e-6)
    np.testing.assert_allclose(_mapped("zscore", tokens), expected, atol=1e-4)


def test_remove_high_variance_keeps_the_other_channels_in_order(tokens: Tokens, train: np.ndarray) -> None:
    keep = np.sort(np.argsort(-train.var(0), kind="stable")[3:])
    np.testing.assert_array_equal(_mapped("remove_high_variance[m=3]", tokens), tokens["patch"].numpy()[..., keep])


@pytest.mark.parametrize(("m", "left"), [("3", 13), ("0.25", 12), ("0.26", 12)])
def test_m_is_a_number_of_channels_or_a_fraction(m: str, left: int, tokens: Tokens) -> None:
    assert _mapped(f"remove_high_variance[m={m}]", tokens).shape[-1] == left
    assert _mapped(f"random_dims[m={m}]", tokens).shape[-1] == left


def test_the_default_fraction_is_200_of_768_channels() -> None:
    assert round(build_repair("remove_high_variance").params.m * 768) == 200


def test_a_repair_of_one_field_leaves_the_others(tokens: Tokens) -> None:
    repair = build_repair("remove_high_variance[m=3,field=key]")
    mapped = repair.map(tokens, fit_all(repair))
    assert mapped["key"].shape[-1] == 13
    assert torch.equal(mapped["patch"], tokens["patch"])


def test_random_dims_depend_on_the_seed_alone(tokens: Tokens) -> None:
    one, same, other = (_mapped(f"random_dims[m=4,seed={s}]", tokens) for s in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_remove_top_components_is_all_but_the_top(tokens: Tokens, train: np.ndarray) -> None:
    _, _, v = np.linalg.svd(train - train.mean(0), full_matrices=False)
    y = tokens["patch"].double().numpy() - train.mean(0)
    np.testing.assert_allclose(_mapped("remove_top_components[k=2]", tokens), y - y @ v[:2].T @ v[:2], atol=1e-3)


@pytest.mark.parametrize("rule", ["quantile", "mad"])
def test_norm_clip_shortens_long_tokens_and_keeps_directions(rule: str, tokens: Tokens, train: np.ndarray) -> None:
    norms = np.linalg.norm(train, axis=1)
    median = np.sort(norms)[(len(norms) - 1) // 2]
    mad = np.sort(np.abs(norms - median))[(len(norms) - 1) // 2]
    tau = np.quantile(norms, 0.98) if rule == "quantile" else median + 3 * 1.4826 * mad
    x = tokens["patch"].double().numpy()
    expected = x * np.minimum(1, tau / np.linalg.norm(x, axis=-1, keepdims=True))
    np.testing.assert_allclose(_mapped(f"norm_clip[rule={rule}]", tokens), expected, rtol=1e-4, atol=1e-4)


def test_unit_leaves_a_zero_token_zero(tokens: Tokens) -> None:
    tokens = tokens.with_field("patch", tokens["patch"].clone())
    tokens["patch"][0, 0, 0] = 0
    out = _mapped("unit", tokens)
    assert (out[0, 0, 0] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(out[1:], axis=-1), 1, rtol=1e-5)


def test_smooth3_is_the_binomial_kernel_renormalised_at_the_border(tokens: Tokens) -> None:
    x, out = tokens["patch"].double().numpy(), _mapped("smooth3", tokens)
    kernel = np.outer([1, 2, 1], [1, 2, 1])
    inner = sum(kernel[i, j] * x[0, 1 + i, 1 + j] for i in range(3) for j in range(3)) / 16
    corner = sum(kernel[i + 1, j + 1] * x[0, i, j] for i in range(2) for j in range(2)) / 9
    np.testing.assert_allclose(out[0, 2, 2], inner, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out[0, 0, 0], corner, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(out[:, :, 5], tokens["patch"][:, :, 5].double())  # padding


def test_position_mean_takes_away_what_a_position_always_adds(tokens: Tokens) -> None:
    context = SyntheticContext("patch")
    stack = torch.cat([t["patch"] for t in context.tokens()]).double()
    repair = build_repair("position_mean")
    plain = synthetic_tokens(77)
    mapped = repair.map(plain, {"patch": repair.fit(context)} | fit_all(repair))["patch"]
    torch.testing.assert_close(
        mapped.double(), plain["patch"] - stack.mean(0) + stack.mean((0, 1, 2)), atol=1e-3, rtol=0
    )


def test_position_means_are_resampled_smoothly_to_another_grid() -> None:
    ramp = torch.linspace(0, 1, 8).view(1, 8, 1).expand(8, 8, 1).contiguous()
    out = resampled(ramp, (4, 16))
    assert out.shape == (4, 16, 1)
    assert bool((out[:, 1:] >= out[:, :-1] - 1e-3).all())


def test_position_mean_on_a_grid_of_one_row_cannot_be_resampled() -> None:
    with pytest.raises(NotApplicableError, match="cannot be resampled"):
        resampled(torch.zeros(1, 6, 2), (4, 4))


def test_position_mean_refuses_train_grids_of_two_sizes() -> None:
    class Mixed(SyntheticContext):
        def tokens(self):
            yield from super().tokens()
            yield synthetic_tokens(3, grid_hw=(5, 6))

    with pytest.raises(NotApplicableError, match=r"\(6, 6\) and \(5, 6\)"):
        build_repair("position_mean").fit(Mixed("patch"))


@pytest.mark.parametrize(
    "name", ["center", "zscore", "position_mean", "remove_top_components", "norm_clip", "fill_outliers"]
)
def test_too_few_train_images_are_named(name: str) -> None:
    context = SyntheticContext("patch", batches=0)
    with pytest.raises(NotApplicableError, match="train images"):
        build_repair(name).fit(context)


@pytest.mark.parametrize("name", ["remove_high_variance[m=16]", "random_dims[m=1.0]", "remove_top_components[k=16]"])
def test_more_channels_than_there_are_cannot_fall(name: str, tokens: Tokens) -> None:
    with pytest.raises(NotApplicableError, match="16 channels"):
        _mapped(name, tokens)


@pytest.mark.parametrize(
    "name",
    [
        "remove_high_variance[m=1.5]",
        "remove_high_variance[field=norms]",
        "random_dims[m=-1]",
        "norm_clip[q=2]",
        "smooth3[strength=3]",
        "remove_top_components[k=-1]",
        "center[m=3]",
        "centre",
    ],
)
def test_parameters_that_make_no_sense_are_usage_errors(name: str) -> None:
    with pytest.raises(UsageError):
        build_repair(name)
