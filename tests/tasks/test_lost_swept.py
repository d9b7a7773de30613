"""LOST swept: what is chosen is chosen elsewhere, and each variant is what LOST itself gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitbench.catalogue.tasks.discovery import SweptSettings
from vitbench.tasks.lost import lost_boxes
from vitbench.tasks.lost_swept import Variant, choose, fold_of, transformed, variant_boxes, variants
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.object_discovery import ObjectDiscovery

from .streams import batch, context, scenes_stream

SMALL = SweptSettings(blocks=1, bias_steps=1)


def test_the_grid_is_the_last_blocks_by_transform_by_bias_with_plain_lost_first():
    assert SweptSettings().fields()[:5] == ("key", "query", "value", "key_-2", "query_-2")
    every = variants(SweptSettings())
    assert len(every) == len(set(every)) == 12 * 3 * 5
    assert every[0] == Variant("key", "raw", 0.0)


def test_variants_are_lost_on_transformed_keys_with_that_bias():
    keys = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(3)) + 0.5
    made = batch({"key": keys}, [{"image_hw": (16, 20)}] * 2)
    for v, found in variant_boxes(made, variants(replace(SMALL, blocks=1))[:6], 10):
        for i in range(2):
            x = transformed(keys[i].reshape(1, 20, 3), v.transform)
            gram = (x @ x.mT).flatten().numpy()
            bias = -np.quantile(gram, v.quantile, method="inverted_cdf") if v.quantile else 0.0
            expected = lost_boxes(x.reshape(1, 4, 5, 3), 10, float(bias))
            assert np.array_equal(found.boxes[i], expected.boxes[0]), v


def test_each_half_is_measured_with_what_was_best_on_the_other():
    # Fold 0 is solved by keys, fold 1 by values; so fold 1 is measured with keys and fold 0 with values: both miss.
    stream = scenes_stream(12, "val", 5, noise=0.1)
    for part in stream:
        for i, key in enumerate(part.tokens.keys):
            part.tokens.fields["query"][i] = 1.0
            part.tokens.fields["value" if fold_of(key) == 0 else "key"][i] = 1.0
    folds = {fold_of(key) for key in stream.keys}
    assert folds == {0, 1}
    first, second = choose(stream, SMALL)
    assert (first.field, second.field) == ("value", "key")
    rows = ObjectDiscovery(SMALL).measure(None, stream, context())
    assert rows.info["selected"] == [str(first), str(second)]
    assert rows.stats["degenerate"].all()


def test_what_an_image_shows_does_not_change_how_it_is_measured_itself():
    stream = scenes_stream(10, "val", 5, noise=0.1)
    before = ObjectDiscovery(SMALL).measure(None, stream, context())
    spoiled = scenes_stream(10, "val", 5, noise=0.1)
    for part in spoiled:
        for i, key in enumerate(part.tokens.keys):
            if fold_of(key) == 0:
                part.targets[i]["boxes"] = np.zeros((0, 4), np.float32)
    after = ObjectDiscovery(SMALL).measure(None, spoiled, context())
    for i, key in enumerate(before.unit_id):
        if fold_of(key) == 0:  # chosen on fold 1, which is as it was
            assert np.array_equal(before.stats["box"][i], after.stats["box"][i])


def test_only_so_many_images_are_chosen_on():
    few = replace(SMALL, select_images=1)
    stream = scenes_stream(12, "val", 5)
    seen: list[str] = []

    class Watched(MemoryStream):
        def __iter__(self):
            for part in super().__iter__():
                seen.extend(part.tokens.keys)
                yield part

    assert choose(Watched(stream.batches), few)
    assert len(seen) == 12


@pytest.mark.parametrize("images", [1, 2])
def test_one_image_is_measured_with_the_plainest_variant(images):
    stream = scenes_stream(images, "val", 5)
    rows = ObjectDiscovery(SMALL).measure(None, stream, context())
    assert len(rows) == images
    if images == 1:
        assert "key raw no bias" in rows.info["selected"]
