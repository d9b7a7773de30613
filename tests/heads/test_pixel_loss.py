"""The pixel loss against torch's own upsampling and cross-entropy."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vitbench.heads import pixel_loss as module
from vitbench.heads.pixel_loss import pixel_loss


@pytest.mark.parametrize("values", [1, 1 << 21])
@pytest.mark.parametrize("hw", [(9, 9), (30, 17), (3, 4), (9, 15), (13, 20), (7, 10)])
def test_loss_and_gradient_are_torchs_with_void_in_the_mean(
    hw: tuple[int, int], values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module._VALUES, "cpu", values)
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (3, *hw), generator=g)
    labels[:, :2] = 255
    ours = (4 * torch.randn(3, 5, 4, 5, generator=g)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    up = F.interpolate(theirs, hw, mode="bilinear", align_corners=False)
    expected = F.cross_entropy(up, labels, ignore_index=255, reduction="sum") / labels.numel()
    found = pixel_loss(ours, labels, 255)
    torch.testing.assert_close(found, expected)
    (2 * found).backward()
    (2 * expected).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("width", [6, 13, 15, 20, 37])
def test_pixels_between_two_cells_need_no_exponential_each(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (3, 9, width), generator=g)
    labels[0, :, 3:5] = 255
    swept = module.PixelLoss._swept
    monkeypatch.setattr(module.PixelLoss, "_swept", lambda *_: pytest.fail("one exponential for each pixel and class"))
    loss = module.PixelLoss(labels, 255)  # one batch of labels, several heads
    for scale in (0.0, 1.0, 8.0):
        logits = (scale * torch.randn(3, 5, 4, 5, generator=g)).requires_grad_()
        found, slope = loss.evaluated(logits.detach())
        expected, wanted = swept(loss, logits.detach())
        torch.testing.assert_close(float(found), float(expected), rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(slope, wanted, rtol=1e-4, atol=1e-4)


def test_logits_too_far_apart_for_a_series_are_taken_one_by_one() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 0, 0, 0], logits[0, 1, :, 1] = 300.0, 300.0
    labels = torch.zeros(1, 6, 6, dtype=torch.int64)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = pixel_loss(ours, labels, 255)
    expected = F.cross_entropy(F.interpolate(theirs, (6, 6), mode="bilinear"), labels)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def test_void_alone_gives_nothing_and_large_logits_do_not_overflow() -> None:
    logits = torch.full((1, 3, 2, 2), 1e4).requires_grad_()
    assert float(pixel_loss(logits, torch.full((1, 8, 8), 255), 255).detach()) == 0
    loss = pixel_loss(logits, torch.zeros(1, 8, 8, dtype=torch.int64), 255)
    assert float(loss.detach()) == pytest.approx(1.0986, abs=1e-3)
