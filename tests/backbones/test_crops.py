"""Where the patches of a crop lie in the image, by both conventions."""

from __future__ import annotations

import pytest
import torch

from vitbench.backbones.crops import AREA, ASPECT, Crop, crop_points, cut, grid_points, random_crops


def test_patches_lie_at_their_centres_or_from_edge_to_edge() -> None:
    centres, edges = grid_points((2, 4), "centres"), grid_points((2, 4), "edges")
    torch.testing.assert_close(centres[0, :, 0], torch.tensor([0.125, 0.375, 0.625, 0.875]))
    torch.testing.assert_close(centres[:, 0, 1], torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(edges[0, :, 0], torch.tensor([0, 1 / 3, 2 / 3, 1]))
    torch.testing.assert_close(edges[:, 0, 1], torch.tensor([0.0, 1.0]))


def test_edge_to_edge_coordinates_are_half_a_patch_off_at_the_border() -> None:
    off = grid_points((8, 8), "centres") - grid_points((8, 8), "edges")
    assert off.abs().max() == pytest.approx(0.5 / 8)


@pytest.mark.parametrize("flipped", [False, True])
def test_a_patch_of_a_crop_lies_where_its_pixels_are(flipped: bool) -> None:
    # An image that shows its own coordinates: what a crop's patch sees on average is where the patch lies.
    y, x = torch.meshgrid((torch.arange(48) + 0.5) / 48, (torch.arange(64) + 0.5) / 64, indexing="ij")
    image = torch.stack((x, y, x))
    crop = Crop(top=6, left=20, height=24, width=32, flipped=flipped)
    seen = torch.nn.functional.avg_pool2d(cut(image, crop, (24, 32)), 8)
    points = crop_points(crop, (48, 64), (3, 4), "centres")
    torch.testing.assert_close(seen[:2].permute(1, 2, 0), points)


def test_flipped_crops_are_mirrored_in_pixels_and_in_coordinates() -> None:
    image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain, mirrored = (Crop(4, 8, 16, 16, flipped) for flipped in (False, True))
    torch.testing.assert_close(cut(image, mirrored, (16, 16)), cut(image, plain, (16, 16)).flip(-1))
    for coordinates in ("centres", "edges"):
        points = crop_points(plain, (32, 32), (2, 2), coordinates)
        torch.testing.assert_close(crop_points(mirrored, (32, 32), (2, 2), coordinates), points.flip(1))


def test_random_crops_keep_to_area_and_aspect_and_lie_within() -> None:
    crops = random_crops((300, 600), 500, torch.Generator().manual_seed(1))
    areas = [c.height * c.width / (300 * 600) for c in crops]
    ratios = [(c.width / 600) / (c.height / 300) for c in crops]
    assert min(areas) > AREA[0] - 0.005
    assert max(areas) < AREA[1] + 0.005
    assert max(areas) - min(areas) > 0.35
    assert min(ratios) > ASPECT[0] - 0.02
    assert max(ratios) < ASPECT[1] + 0.02
    assert all(c.top >= 0 and c.left >= 0 and c.top + c.height <= 300 and c.left + c.width <= 600 for c in crops)
    assert 200 < sum(c.flipped for c in crops) < 300
