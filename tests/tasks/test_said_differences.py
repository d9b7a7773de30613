"""Where a protocol knowingly differs from its source, its page says so: each test holds the rule and the sentence together."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from vitbench.catalogue import DATASETS
from vitbench.catalogue.tasks import TASK_CARDS
from vitbench.catalogue.tasks.settings import ROUNDED
from vitbench.catalogue.tasks.streaming import DINOV2_DEPTH, DVT_DEPTH
from vitbench.catalogue.views import View
from vitbench.metrics.saliency import saliency_statistics
from vitbench.reports.protocols import pages
from vitbench.tasks.leopart_segmentation import square_labels
from vitbench.tokens.placing import place

from .streams import batch

PAGES = pages()
PROTOCOLS = {f"{card.name}@{p.name}": p for card in TASK_CARDS for p in card.protocols}


@pytest.mark.parametrize("name", [n for n, p in PROTOCOLS.items() if p.source])
def test_a_source_is_authors_year_and_arxiv(name):
    source = PROTOCOLS[name].source
    assert source.authors[0].isupper()
    assert 2000 < source.year < 2100
    assert re.fullmatch(r"\d{4}\.\d{4,5}", source.arxiv)


def test_the_longer_side_of_a_crop_is_rounded():
    image = np.zeros((333, 499, 3), np.uint8)  # 499 x 256 / 333 = 383.6, which torchvision makes 383
    [(_, placement)] = place(image, View("crop", 224), 16)
    assert placement.scale == (333 / 256, 499 / 384)
    read = [n for n, p in PROTOCOLS.items() if p.source and p.settings.view == "crop" and "_classification" in n]
    assert len(read) >= 4
    assert all(ROUNDED in PAGES[f"{n}.md"] for n in read if not n.startswith("token_"))


@pytest.mark.parametrize("protocol", [DINOV2_DEPTH, DVT_DEPTH], ids=lambda p: p.name)
def test_the_first_moment_of_depth_stays_as_it_is(protocol):
    assert protocol.settings.beta1 == "0.9"
    assert "the first moment of AdamW stays at 0.9" in PAGES[f"depth@{protocol.name}.md"]


def test_a_gradient_term_that_dinov3_has_mended_is_no_difference_to_it():
    assert "compares images instead of pixels" in PAGES["depth@dinov2.md"]
    assert "compares images instead of pixels" not in PAGES["depth@dinov3.md"]


def test_leoparts_masks_are_sampled_at_the_centres_of_cells():
    labels = np.arange(12, dtype=np.uint8)[:, None].repeat(12, 1)
    part = batch({"patch": torch.zeros(1, 3, 3, 4)}, [{"image_hw": (12, 12), "segmentation": labels}])
    assert square_labels(part, 0, 4)[:, 0].tolist() == [1, 4, 7, 10]  # torch's `nearest` takes 0, 3, 6, 9
    for name in ("linear_segmentation@leopart", "cluster_segmentation@leopart", "cluster_segmentation@leopart_over"):
        assert "sampled at the centres of the 100x100 cells" in PAGES[f"{name}.md"]


def test_saliency_counts_a_threshold_that_is_reached_and_an_empty_mask_as_imprecise():
    everywhere = np.ones((1, 2), bool)
    stats = saliency_statistics(np.array([[0.0, 0.5]]), everywhere, np.array([[False, True]]), everywhere)
    assert stats["precision"][0] == 0.5  # the reference asks for more than 0, which one of the two has
    assert stats["precision"][-1] == 0  # nothing is found: 1 in the reference
    assert "counts an empty mask as precise" in PAGES["saliency@tokencut.md"]


def test_square_frames_stay_square():
    [(_, placement)] = place(np.zeros((500, 500, 3), np.uint8), View("davis", 480), 16)
    assert placement.view_hw == (480, 480)  # 480 x 448 by the reference's rule for the longer side
    assert "Square frames stay square" in PAGES["label_propagation@dino.md"]


def test_small_images_of_a_collection_are_enlarged():
    [(_, placement)] = place(np.zeros((100, 200, 3), np.uint8), View("long", 512), 16)
    assert placement.view_hw == (256, 512)  # a thumbnail stays at 100 x 200
    assert "Smaller images are enlarged to the size, which its thumbnails are not" in PAGES["retrieval@dino.md"]


def test_views_of_dinov3_are_matched_between_patches_too():
    assert PROTOCOLS["view_correspondence@dinov3"].settings.every_px < 14
    assert "matches patches, not pixels between them" in PAGES["view_correspondence@dinov3.md"]


def test_no_depth_head_is_carried_over_to_sun_rgbd():
    assert set(DATASETS.get("sun_rgbd").splits) == {"test"}
    assert all("SUN RGB-D" in PAGES[f"depth@{name}.md"] for name in ("dinov2", "dinov2_lin4"))
