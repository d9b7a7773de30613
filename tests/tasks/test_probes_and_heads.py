"""What single tasks do beyond the common rules."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from vitbench.catalogue import TASKS
from vitbench.catalogue.tasks.depth import RidgeDepthSettings
from vitbench.errors import DataError, TokensError, UsageError
from vitbench.metrics import measures
from vitbench.tasks.base import Batch
from vitbench.tasks.depth import Depth
from vitbench.tasks.memory import MemoryStream
from vitbench.tokens.types import Tokens

from .streams import context, scenes_stream

CONTEXT = context(6, (2, 3, 4, 5), 4)


def task(name, **changes):
    card = TASKS.get(name)
    return TASKS.load(name)(dataclasses.replace(card.protocols[0].settings, **changes))


def numbers(name, rows):
    return {m.name: float(m.value(rows.sums(), rows.info)) for m in measures(TASKS.get(name).metric)}


def with_field(stream, field, change):
    out = []
    for b in stream:
        fields = {**b.tokens.fields, field: change(b.tokens[field])}
        out.append(Batch(Tokens(fields, b.tokens.geometry, b.tokens.keys), b.targets))
    return MemoryStream(out, stream.split)


def test_ridge_segmentation_does_not_care_about_the_scale_of_channels():
    train, val = scenes_stream(20, "train", 0), scenes_stream(6, "val", 1)
    scale = torch.logspace(-2, 2, 24)
    plain = task("linear_segmentation")
    expected = numbers("linear_segmentation", plain.measure(plain.fit(train, CONTEXT), val, CONTEXT))
    scaled = with_field(train, "patch", lambda x: x * scale), with_field(val, "patch", lambda x: x * scale)
    found = numbers("linear_segmentation", plain.measure(plain.fit(scaled[0], CONTEXT), scaled[1], CONTEXT))
    assert found["mIoU"] == pytest.approx(expected["mIoU"], abs=0.2)


def test_segmentation_is_scored_at_label_resolution():
    train, val = scenes_stream(20, "train", 0), scenes_stream(4, "val", 1)
    for b in val:
        for t in b.targets:
            t["segmentation"] = t["segmentation"].repeat(3, 0).repeat(3, 1)
    linear = task("linear_segmentation")
    rows = linear.measure(linear.fit(train, CONTEXT), val, CONTEXT)
    labelled = sum((t["segmentation"] != 255).sum() for b in val for t in b.targets)
    assert rows.stats["tp"].sum() + rows.stats["fn"].sum() == labelled


def test_flagged_tokens_are_scored_apart():
    train, val = scenes_stream(20, "train", 0), scenes_stream(6, "val", 1)
    flag = torch.zeros(6, 8, 10, dtype=torch.bool)
    flag[:, :2] = True

    def spoil(x):
        x = x.clone()
        x[flag] = 1000.0
        return x

    spoiled = with_field(with_field(val, "patch", spoil), "flags", lambda _: flag)
    for name in ("linear_segmentation", "knn_segmentation"):
        t = task(name)
        rows = t.measure(t.fit(train, CONTEXT), spoiled, CONTEXT)
        found = numbers(name, rows)
        assert rows.sums()["n_flagged"] <= flag.sum()
        assert found["flagged_accuracy"] < found["patch_accuracy"]


def test_an_image_without_depth_is_skipped_and_counted():
    train, val = scenes_stream(12, "train", 0), scenes_stream(3, "val", 1)
    val.batches[0].targets[1]["depth"][:] = 0
    depth = Depth(RidgeDepthSettings())
    head = depth.fit(train, CONTEXT)
    rows = depth.measure(head, val, CONTEXT)
    assert rows.stats["n"].tolist() == [1, 0, 1]
    assert depth.flags(head, rows)["images_without_depth"] == 1
    assert np.isfinite(numbers("depth", rows)["rmse"])


def test_depths_stay_within_what_train_has_shown():
    train, val = scenes_stream(12, "train", 0), scenes_stream(3, "val", 1)
    wild = with_field(val, "patch", lambda x: x * 1e4)
    depth = Depth(RidgeDepthSettings())
    rows = depth.measure(depth.fit(train, CONTEXT), wild, CONTEXT)
    assert numbers("depth", rows)["rmse"] < 8


def test_the_position_probe_finds_positions_and_needs_one_grid():
    train, val = scenes_stream(30, "train", 0, noise=0.02), scenes_stream(6, "val", 1, noise=0.02)
    probe = task("position_probe")
    head = probe.fit(train, CONTEXT)
    found = numbers("position_probe", probe.measure(head, val, CONTEXT))
    assert found["top1"] > 50
    assert found["distance"] < 1
    assert found["outliers"] == pytest.approx(100 / 80, abs=0.3)  # the first cell of every image was given a large norm
    with pytest.raises(UsageError, match="one grid size"):
        probe.measure(head, scenes_stream(2, "val", 1, hw=(48, 20)), CONTEXT)


def test_the_pixel_probe_reads_pixels_that_are_in_the_tokens():
    def reveal(stream):
        for b in stream:
            b.tokens.fields["patch"] = b.tokens["pixels"].float() * 3 - 100
        return stream

    train, val = reveal(scenes_stream(20, "train", 0)), reveal(scenes_stream(4, "val", 1))
    probe = task("pixel_probe")
    assert numbers("pixel_probe", probe.measure(probe.fit(train, CONTEXT), val, CONTEXT))["l2"] < 0.01
    with pytest.raises(TokensError, match="pixels"):
        probe.fit(with_field(train, "pixels", lambda x: x.float()), CONTEXT)


def test_norms_report_the_cut_off_only_where_one_is_given_and_refuse_a_block_that_is_not_there():
    val = scenes_stream(6, "val", 1)
    without = numbers("token_norms", task("token_norms").measure(None, val, CONTEXT))
    assert np.isnan(without["outliers_cutoff"])
    assert without["outliers_mad"] == pytest.approx(100 / 80)
    first = numbers("token_norms", task("token_norms", block=0, cutoff=1e9).measure(None, val, CONTEXT))
    assert first["outliers_mad"] == first["outliers_cutoff"] == 0
    with pytest.raises(UsageError, match="block 7 of 3"):
        task("token_norms", block=7).measure(None, val, CONTEXT)


def test_knn_classification_with_memory_equal_to_query_is_right_everywhere():
    stream = scenes_stream(12, "train", 0)
    knn = task("knn_classification", k=1)
    assert numbers("knn_classification", knn.measure(knn.fit(stream, CONTEXT), stream, CONTEXT))["top1"] == 100


def test_more_neighbours_than_images_are_cut_and_said():
    stream = scenes_stream(6, "train", 0)
    knn = task("knn_classification", k=50)
    head = knn.fit(stream, CONTEXT)
    assert knn.flags(head, knn.measure(head, stream, CONTEXT)) == {"k_cut_to": 6}


def test_an_image_label_outside_the_classes_names_the_image():
    stream = scenes_stream(6, "train", 0)
    stream.batches[0].targets[2]["label"] = 9
    with pytest.raises(DataError, match="image 'train-2': label 9 is outside the 4 classes"):
        task("linear_classification").fit(stream, CONTEXT)
