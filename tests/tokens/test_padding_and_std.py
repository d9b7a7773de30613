"""Content anywhere in its padding, and a mistyped standard deviation: both change what the network sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue import TASKS
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.views import View
from vitbench.tasks.upsample import LabelSampler
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import TokenRequest
from vitbench.tokens.views import batch, normalise


class Means(Backbone):
    """The mean of each colour of a patch, as the network would see it."""

    def __init__(self) -> None:
        self.card = BackboneCard("means", "", "test", "module", 4, 1, 0, 3, 1, mean=(0, 0, 0), std=(1, 1, 1))

    def _forward(
        self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Geometry
    ) -> dict[str, Tensor]:
        return {"patch": torch.nn.functional.avg_pool2d(pixels, 4).permute(0, 2, 3, 1)}


def test_a_mistyped_std_is_part_of_the_view_and_of_what_the_backbone_sees() -> None:
    card = TASKS.get("knn_segmentation")
    settings = card.protocol("hummingbird").settings
    plain, compat = card.view(settings), card.view(dataclasses.replace(settings, compat=True))
    assert plain.std is None
    assert str(plain.snapped(14)) == "resize504"
    assert str(compat.snapped(14)) == "resize504~std0.229,0.224,0.255"
    assert compat.simplest((512, 512), 16) == View("whole", std=(0.229, 0.224, 0.255))
    assert plain.simplest((512, 512), 16) == View("whole")
    video = TASKS.get("label_propagation")
    settings = video.protocol("dino").settings
    assert video.view(settings).std is None
    assert video.view(dataclasses.replace(settings, compat=True)).std == (0.228, 0.224, 0.225)
    white = [np.full((8, 8, 3), 255, np.uint8)]
    for std, seen in ((None, [1.0, 1.0, 1.0]), ((1.0, 1.0, 0.5), [1.0, 1.0, 2.0])):
        tokens = Means().tokens(white, TokenRequest(("patch",), View("whole", std=std)), ["a"])
        assert tokens["patch"][0, 0, 0].tolist() == seen


def placement() -> Placement:
    """An image of 10 x 6 pixels, at (1, 3) of a view of 12 x 12."""
    return Placement((10, 6), (12, 12), (10, 6), offset=(-1.0, -3.0), content_at=(1, 3))


def test_padding_is_zero_on_every_side() -> None:
    pixels, geometry = batch([(np.full((10, 6, 3), 200, np.uint8), placement())], 4)
    x = normalise(pixels, geometry, (0.1, 0.1, 0.1), (0.5, 0.5, 0.5), torch.float32)
    shown = x[0, 0] != 0
    assert shown[1:11, 3:9].all()
    assert int(shown.sum()) == 60
    assert geometry.valid()[0].tolist() == [[True, True, True]] * 3
    far = Geometry(4, (3, 3), (dataclasses.replace(placement(), content_hw=(2, 2), content_at=(5, 4)),))
    assert far.valid()[0].tolist() == [[False] * 3, [False, True, False], [False] * 3]


def test_labels_boxes_and_upsampling_follow_the_content() -> None:
    geometry = Geometry(4, (3, 3), (placement(),))
    labels = np.arange(60).reshape(10, 6).astype(np.int32)
    view = geometry.place_labels(0, labels, fill=255)
    np.testing.assert_array_equal(view[1:11, 3:9], labels)
    assert (view[0] == 255).all()
    assert geometry.to_cells(0, np.array([[0.0, 0.0]])).tolist() == [[0.75, 0.25]]
    sampler = LabelSampler(geometry, 0, (10, 6))
    assert (sampler.rows, sampler.cols) == (slice(0, 10), slice(0, 6))
    grid = torch.arange(9.0).reshape(3, 3, 1)
    up = torch.nn.functional.interpolate(grid.permute(2, 0, 1)[None], (12, 12), mode="bilinear", align_corners=False)
    torch.testing.assert_close(sampler.values(grid), up[0, :, 1:11, 3:9])
