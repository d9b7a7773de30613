"""Sub-patch shifts, against the method written out pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vitbench.catalogue import REPAIRS
from vitbench.catalogue.ensembles import SrtParams
from vitbench.errors import UsageError
from vitbench.repairs.compose import build_repair
from vitbench.repairs.edit_contract import PATCH_PX, WIDE, images, tiny_backbones
from vitbench.repairs.srt import PixelShift, overlaps
from vitbench.tokens.types import TokenRequest
from vitbench.tokens.views import batch, normalise, place


def _shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """b c h w, content moved up by dy and left by dx, zeros where nothing was."""
    h, w = x.shape[2:]
    padded = functional.pad(x, (abs(dx), abs(dx), abs(dy), abs(dy)))
    return padded[:, :, abs(dy) + dy : abs(dy) + dy + h, abs(dx) + dx : abs(dx) + dx + w]


@pytest.mark.parametrize("offset", [(1, -2), (-3, 0), (2, 3)])
def test_pooled_overlaps_are_what_upsampling_unshifting_and_pooling_give(offset: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)).permute(0, 1, 3, 2).contiguous()
    large = functional.interpolate(x.permute(0, 3, 1, 2), scale_factor=8, mode="nearest")
    literal = functional.avg_pool2d(_shifted(large, -offset[0], -offset[1]), 8).permute(0, 2, 3, 1)
    torch.testing.assert_close(PixelShift(offset, 8).back(x), literal)


def test_overlaps_share_each_cell_among_the_cells_that_show_its_pixels() -> None:
    assert overlaps(3, 2, 8).tolist() == [[0.75, 0, 0], [0.25, 0.75, 0], [0, 0.25, 0.75]]
    assert overlaps(3, -2, 8).tolist() == [[0.75, 0.25, 0], [0, 0.75, 0.25], [0, 0, 0.75]]
    assert torch.equal(overlaps(4, 0, 8), torch.eye(4))


@pytest.mark.parametrize("name", tiny_backbones())
def test_the_mean_is_the_published_one(name: str) -> None:
    plain = tiny_backbones()[name]
    pictures, keys, request = images(1, 2, WIDE), ["a", "b"], TokenRequest(("patch", "key", "cls"))
    repaired = build_repair("srt").edit(plain, {}).tokens(pictures, request, keys)
    own = plain.tokens(pictures, request, keys)
    raw, geometry = batch([p for image in pictures for p in place(image, request.view, PATCH_PX)], PATCH_PX)
    pixels = normalise(raw, geometry, plain.card.mean, plain.card.std, torch.float32)
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)] + [(0, 0)]
    for field in ("patch", "key"):
        total: Tensor | float = 0.0
        for dy, dx in shifts:
            x = plain._forward(_shifted(pixels, dy, dx), TokenRequest((field,)), keys, geometry)[field]
            large = functional.interpolate(x.permute(0, 3, 1, 2), scale_factor=PATCH_PX, mode="nearest")
            total = total + _shifted(large, -dy, -dx)
        literal = functional.avg_pool2d(total / len(shifts), PATCH_PX).permute(0, 2, 3, 1)  # type: ignore[arg-type]
        torch.testing.assert_close(repaired[field], literal, rtol=1e-4, atol=1e-4)
    assert torch.equal(repaired["cls"], own["cls"])


def test_no_shift_is_the_backbone_itself_and_the_card_counts_forwards() -> None:
    plain = next(iter(tiny_backbones().values()))
    request, keys = TokenRequest(("patch",)), [str(i) for i in range(4)]
    same = build_repair("srt[d=0]").edit(plain, {}).tokens(images(1), request, keys)
    assert torch.equal(same["patch"], plain.tokens(images(1), request, keys)["patch"])
    assert [REPAIRS.get("srt").forwards(SrtParams(d)) for d in (0, 1, 2, 3)] == [1, 9, 25, 49]


def test_shifts_that_are_none_or_leave_the_patch_are_refused() -> None:
    with pytest.raises(UsageError, match="d=-1"):
        build_repair("srt[d=-1]")
    with pytest.raises(UsageError, match="d=8"):
        build_repair("srt[d=8]").edit(next(iter(tiny_backbones().values())), {})
