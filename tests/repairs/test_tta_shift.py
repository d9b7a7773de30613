"""Averages over shifted views: the published shift, offsets that spread, and patches averaged over the views that saw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.backbones.defects import plant_all
from vitbench.backbones.ensemble import moved
from vitbench.backbones.load import load_backbone
from vitbench.catalogue import REPAIRS
from vitbench.catalogue.ensembles import TtaShiftParams
from vitbench.errors import UsageError
from vitbench.repairs.compose import build_repair
from vitbench.repairs.edit_contract import images, tiny_backbones
from vitbench.repairs.tta_shift import PatchShift, draw_shifts, shift_ensemble
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.types import TokenRequest

WHITE = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)


def test_a_positive_shift_moves_content_up_and_left_as_published() -> None:
    ramp = torch.arange(48.0).reshape(6, 8)
    shifted = moved(ramp, (2, -3), (0, 1), -1.0)
    assert shifted[0].tolist() == [-1, -1, -1, 16, 17, 18, 19, 20]
    assert shifted[3].tolist() == [-1, -1, -1, 40, 41, 42, 43, 44]
    assert bool((shifted[4:] == -1).all())
    assert bool((moved(ramp, (0, 8), (0, 1), -1.0) == -1).all())


@pytest.mark.parametrize("flipped", [False, True])
def test_a_field_comes_back_to_the_patches_it_was_seen_at(flipped: bool) -> None:
    image = torch.randn(1, 3, 6 * 4, 8 * 4, generator=torch.Generator().manual_seed(0))
    view = PatchShift((2, -3), flipped, 4, WHITE)
    seen = view.look(image)
    assert torch.equal(seen[0, :, -1, 0 if not flipped else -1], WHITE.flatten())
    patches = torch.nn.functional.unfold(seen, 4, stride=4).reshape(1, 3, 16, 6, 8)[:, :, 0].permute(0, 2, 3, 1)
    mine = torch.nn.functional.unfold(image, 4, stride=4).reshape(1, 3, 16, 6, 8)
    expected = mine[:, :, 3 if flipped else 0].permute(0, 2, 3, 1)  # a mirrored patch starts with its last pixel
    weight = view.weight((6, 8))
    assert torch.equal(view.back(patches), expected * weight.unsqueeze(-1))
    assert weight.tolist() == [[0.0] * 8] * 2 + [[1.0] * 5 + [0.0] * 3] * 4


def test_offsets_start_at_zero_stay_in_reach_and_spread() -> None:
    params = TtaShiftParams()
    offsets, flips = draw_shifts((37, 37), params)
    assert len(offsets) == len(flips) == 10
    assert (offsets[0], flips[0]) == ((0, 0), False)
    assert len(set(offsets)) == 10
    assert max(abs(d) for offset in offsets for d in offset) <= 6
    assert any(flips)
    gaps = torch.cdist(torch.tensor(offsets).float(), torch.tensor(offsets).float()).fill_diagonal_(99)
    assert float(gaps.min()) >= 3.5  # ten uniform draws come this near to each other in most sets
    assert draw_shifts((37, 37), params) == (offsets, flips)
    assert draw_shifts((37, 37), TtaShiftParams(seed=1))[0] != offsets
    assert not any(draw_shifts((37, 37), TtaShiftParams(flips=False))[1])
    wide, _ = draw_shifts((10, 40), params)
    assert max(abs(dy) for dy, _ in wide) == 2 < max(abs(dx) for _, dx in wide) <= 6


class _Index(Backbone):
    """Gives each patch's mean red value, and counts images."""

    def __init__(self) -> None:
        self.card = replace(next(iter(tiny_backbones().values())).card, mean=(0.0,) * 3, std=(1.0,) * 3)
        self.count = 0

    def _forward(
        self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Geometry
    ) -> dict[str, Tensor]:
        self.count += len(pixels)
        x = torch.nn.functional.avg_pool2d(pixels[:, :1], 8).permute(0, 2, 3, 1)
        place = torch.arange(x[0].numel(), dtype=torch.float32).reshape(x.shape[1:]).expand_as(x)
        made = {"patch": torch.cat((x, place), dim=-1), "norms": place.permute(0, 3, 1, 2), "cls": x.mean((1, 2))}
        return {name: made[name] for name in request.fields}


def test_what_hangs_on_content_stays_and_what_hangs_on_position_is_averaged() -> None:
    plain = _Index()
    params = TtaShiftParams(views=6, reach=0.4)
    request, keys = TokenRequest(("patch", "norms", "cls")), ["a", "b"]
    pictures = images(0, 2, (48, 40))
    before = plain.tokens(pictures, request, keys)
    plain.count = 0
    after = shift_ensemble(plain, params).tokens(pictures, request, keys)
    assert plain.count == 2 * 6 == 2 * REPAIRS.get("tta_shift").forwards(params)
    torch.testing.assert_close(after["patch"][..., 0], before["patch"][..., 0])
    assert torch.equal(after["norms"], before["norms"])
    assert torch.equal(after["cls"], before["cls"])
    expected = np.zeros((6, 5))
    seen = np.zeros((6, 5))
    for (dy, dx), flip in zip(*draw_shifts((6, 5), params), strict=True):
        for r in range(6):
            for c in range(5):
                row, column = r - dy, c - dx
                if 0 <= row < 6 and 0 <= column < 5:
                    expected[r, c] += row * 5 + (4 - column if flip else column)
                    seen[r, c] += 1
    np.testing.assert_allclose(after["patch"][0, ..., 1], expected / seen, rtol=1e-6)
    assert seen.min() < seen.max() == 6


def test_one_view_is_the_backbone_itself_and_so_is_a_request_without_grids() -> None:
    plain = next(iter(tiny_backbones().values()))
    request = TokenRequest(("patch", "key", "cls", "norms"))
    keys = [str(i) for i in range(4)]
    before = plain.tokens(images(1), request, keys)
    same = build_repair("tta_shift[views=1]").edit(plain, {}).tokens(images(1), request, keys)
    for name in request.fields:
        assert torch.equal(same[name], before[name])
    counted = _Index()
    shift_ensemble(counted, TtaShiftParams()).tokens(images(1), TokenRequest(("norms", "cls")), keys)
    assert counted.count == 4


def test_padding_has_no_say_in_the_patches_of_the_image() -> None:
    plain = _Index()
    request = TokenRequest(("patch",))
    picture = images(2, 1, (40, 44))
    after = shift_ensemble(plain, TtaShiftParams(reach=0.4)).tokens(picture, request, ["a"])
    before = plain.tokens(picture, request, ["a"])
    valid = torch.from_numpy(before.geometry.valid())
    assert before.geometry.grid_hw == (5, 6)
    torch.testing.assert_close(after["patch"][valid][:, 0], before["patch"][valid][:, 0])


def test_controls_and_planted_defects_are_averaged_too() -> None:
    keys = ["a", "b"]
    colour = load_backbone("patch_colour")
    pictures = images(3, 2, (48, 64))
    tokens = build_repair("tta_shift").edit(colour, {}).tokens(pictures, TokenRequest(("patch",)), keys)
    assert bool(torch.isfinite(tokens["patch"]).all())
    clean = next(iter(tiny_backbones().values()))
    planted = plant_all(clean, "grid[site=output]")
    pictures = images(3, 2, (192, 192))
    pattern = _difference(planted, clean, pictures)
    averaged = build_repair("tta_shift[reach=0.3]")
    assert _difference(averaged.edit(planted, {}), averaged.edit(clean, {}), pictures) < 0.75 * pattern


def _difference(a: Backbone, b: Backbone, pictures: list[np.ndarray]) -> float:
    x, y = (m.tokens(pictures, TokenRequest(("patch",)), ["a", "b"])["patch"] for m in (a, b))
    return float((x - y).norm(dim=-1).mean())


@pytest.mark.parametrize("text", ["views=0", "reach=1.0", "candidates=3"])
def test_parameters_that_make_no_views_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="tta_shift"):
        build_repair(f"tta_shift[{text}]")
