"""The loss of SINDER against the original's own values, and image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vitbench.repairs.neighbour_loss import GAUSSIANS, cosines, inner, neighbour_loss, outlying, smooth_target


def _parts(x: Tensor, direction: Tensor, kernel: int, deviations: float) -> tuple[Tensor, Tensor, Tensor]:
    """Loss b, flags b h w and cells with a target b h w of tokens b h w c without padding."""
    cos, valid = cosines(x, direction), torch.ones(x.shape[:3], dtype=torch.bool)
    within = inner(valid, kernel)
    flags = outlying(cos, valid, deviations) & within
    return neighbour_loss(x, cos, flags, within, kernel), flags, within


def _waves() -> tuple[Tensor, Tensor]:
    """Tokens 1 6 7 8 and a direction, for which the original's values are known."""
    t, c = torch.arange(43, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    x = torch.sin(0.37 * t + 1.1 * c) + 0.2 * torch.cos(0.05 * t * c)
    direction = torch.nn.functional.normalize(torch.cos(0.9 * c), dim=0)
    grid = x[1:].reshape(1, 6, 7, 8).clone()
    for row, col in ((2, 3), (3, 3), (4, 5), (0, 0)):
        grid[0, row, col] += 30 * direction
    return grid, direction


@pytest.mark.parametrize(
    ("kernel", "deviations", "loss", "flags"),
    [
        (3, 1.0, 3.7437354, [[2, 3], [2, 4], [3, 3], [4, 5]]),
        (5, 1.0, 1.8165207, [[2, 3], [2, 4], [3, 3]]),
        (3, 1.5, 0.0, []),
    ],
)
def test_loss_and_flags_of_waves_are_those_of_the_original(
    kernel: int, deviations: float, loss: float, flags: list[list[int]]
) -> None:
    x, direction = _waves()
    found, cells, _ = _parts(x, direction, kernel, deviations)
    assert cells[0].nonzero().tolist() == flags
    np.testing.assert_allclose(found, loss, rtol=2e-7)


def test_target_of_a_defective_token_is_the_original_s() -> None:
    x, direction = _waves()
    target = smooth_target(x, cosines(x, direction), 3)[0, 2, 3, :3]
    np.testing.assert_allclose(target, [0.720871, -0.447007, -1.137746], atol=1e-6)


@pytest.mark.parametrize("case", ["nl0", "nl1", "nl2", "nl3"])
def test_random_tokens_give_the_original_s_loss_flags_target_and_gradient(case: str, shared: Path) -> None:
    golden = np.load(shared / "golden" / "sinder.npz", allow_pickle=False)
    h, w, kernel, deviations = golden[f"{case}__hw_kernel_thr"].tolist()
    h, w, kernel = int(h), int(w), int(kernel)
    tokens = torch.from_numpy(golden[f"{case}__x"]).requires_grad_()
    direction = torch.nn.functional.normalize(torch.from_numpy(golden[f"{case}__u"]), dim=0)
    x = tokens[1:].reshape(1, h, w, -1)
    loss, flags, within = _parts(x, direction, kernel, deviations)
    if f"{case}__none" in golden.files:
        assert int(flags.sum()) < 3
        return
    np.testing.assert_array_equal(flags[0], golden[f"{case}__mask"])
    np.testing.assert_allclose(loss.item(), golden[f"{case}__loss"], rtol=1e-6)
    target = smooth_target(x.detach(), cosines(x, direction).detach(), kernel)
    inside = target[within].reshape(golden[f"{case}__target"].shape)
    np.testing.assert_allclose(inside, golden[f"{case}__target"], atol=2e-6)
    loss.sum().backward()
    np.testing.assert_allclose(tokens.grad, golden[f"{case}__grad_x"], atol=1e-6)


def slow_loss(x: np.ndarray, u: np.ndarray, kernel: int, deviations: float) -> tuple[float, np.ndarray]:
    """Loss and flags of one image h w c, cell by cell."""
    h, w, _ = x.shape
    lengths = np.linalg.norm(x, axis=-1)
    cos = np.abs(x @ u) / np.maximum(lengths, 1e-12)
    limit = cos.mean() + deviations * (cos.std(ddof=1) if cos.size > 1 else 0)
    gaussian, pad = np.array(GAUSSIANS[kernel]), kernel // 2
    inside = [(r, c) for r in range(pad, h - pad) for c in range(pad, w - pad)]
    flags, distances = np.zeros((h, w), bool), []
    for r, c in inside:
        if cos[r, c] > limit:
            flags[r, c] = True
            window = slice(r - pad, r + pad + 1), slice(c - pad, c + pad + 1)
            weights = gaussian * np.exp(-cos[window] / 0.1)
            target = np.einsum("ij,ijc->c", weights, x[window]) / weights.sum()
            distances.append(np.linalg.norm(x[r, c] - target))
    return (np.mean(distances) / np.mean([lengths[cell] for cell in inside]) if distances else 0.0), flags


@settings(max_examples=80)
@given(
    st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 5]),
    st.sampled_from([0.0, 1.0, 2.0]), st.sampled_from(["any", "constant", "zeros"]),
)  # fmt: skip
def test_loss_and_flags_equal_the_slow_restatement_on_any_grid(
    seed: int, h: int, w: int, kernel: int, deviations: float, kind: str
) -> None:
    x, direction = _seeded(seed, 1, h, w)
    if kind == "constant":
        x[:] = x[0, 0, 0]
        deviations = 1.0
    elif kind == "zeros":
        x[0, ::2] = 0
    x.requires_grad_()
    loss, flags, _ = _parts(x, direction, kernel, deviations)
    expected, cells = slow_loss(x.detach()[0].numpy(), direction.numpy(), kernel, deviations)
    if kind != "constant":  # where all cells are equal, rounding decides which is above the mean
        np.testing.assert_array_equal(flags[0], cells)
        assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def _seeded(seed: int, b: int, h: int, w: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(8, generator=generator, dtype=torch.float64), dim=0)
    x = torch.randn(b, h, w, 8, generator=generator, dtype=torch.float64)
    x[torch.rand(b, h, w, generator=generator) < 0.06] += 20 * direction
    return x, direction


def test_every_image_of_a_batch_stands_for_itself() -> None:
    x, direction = _seeded(0, 4, 9, 8)
    together, flags, _ = _parts(x, direction, 3, 2.0)
    assert bool(flags.any((1, 2)).all())
    alone = torch.cat([_parts(image[None], direction, 3, 2.0)[0] for image in x])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_is_as_if_it_were_not_there(kernel: int) -> None:
    x, direction = _seeded(1, 1, 10, 9)
    padded = torch.full((1, 12, 13, 8), 7.0, dtype=torch.float64)
    padded[:, :10, :9] = x
    valid = torch.zeros(1, 12, 13, dtype=torch.bool)
    valid[:, :10, :9] = True
    cos, within = cosines(padded, direction), inner(valid, kernel)
    flags = outlying(cos, valid, 2.0) & within
    expected, cells, _ = _parts(x, direction, kernel, 2.0)
    assert bool(cells.any())
    assert torch.equal(flags[:, :10, :9], cells)
    assert int(flags.sum()) == int(cells.sum())
    torch.testing.assert_close(neighbour_loss(padded, cos, flags, within, kernel), expected)


def test_the_rule_flags_at_most_one_cell_in_its_square_plus_one() -> None:
    for count, found in ((3, 3), (6, 6), (7, 0)):
        cos = torch.zeros(1, 10, 11)
        cos.view(-1)[:count] = 1.0
        assert int(outlying(cos, torch.ones(1, 10, 11, dtype=torch.bool), 4.0).sum()) == found


def test_a_target_takes_no_gradient_and_no_flag_gives_no_loss() -> None:
    x, direction = _seeded(2, 1, 7, 7)
    x.requires_grad_()
    cos = cosines(x, direction)
    within = inner(torch.ones(1, 7, 7, dtype=torch.bool), 3)
    flags = torch.zeros_like(within)
    assert neighbour_loss(x, cos, flags, within, 3).item() == 0
    flags[0, 3, 3] = True
    neighbour_loss(x, cos, flags, within, 3).sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(-1) > 0)[0].nonzero().tolist() == [[3, 3]]
