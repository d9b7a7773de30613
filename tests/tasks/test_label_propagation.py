"""Label propagation against DINO's own output, and against a slow, obvious restatement."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitbench.catalogue.tasks.video import DinoV3PropagationSettings, PropagationSettings
from vitbench.errors import DataError, TokensError
from vitbench.metrics import measures
from vitbench.tasks import propagation
from vitbench.tasks.label_propagation import LabelPropagation, first_labels, masks
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.propagation import Propagator, Rule, grid_labels, propagate, stretched
from vitbench.tokens.geometry import Geometry, Placement

from .clip_streams import clips_stream
from .streams import context

DINO, DINOV3 = Rule(), Rule(window="circle", temperature=0.2, ties=False)


def test_a_video_is_carried_on_as_by_the_released_code(shared: Path):
    golden = np.load(shared / "golden" / "davis_propagation.npz")
    h, w = (int(n) for n in golden["vidB__grid"])
    tokens = torch.from_numpy(golden["vidB__feats_int8"].astype(np.float32) * golden["vidB__feat_scale"])
    truth, patch = golden["vidB__gt_masks"], 16
    view = (h * patch, w * patch)
    native = truth.shape[1:]
    scale = (native[0] / view[0], native[1] / view[1])
    geometry = Geometry(patch, (h, w), (Placement(native, view, view, scale),))
    first = first_labels(geometry, 0, truth[0], [1, 2])
    assert np.array_equal(first.permute(2, 0, 1).numpy(), golden["vidB__first_seg"])
    video = Propagator(tokens[0].reshape(h, w, -1), first, DINO)
    for t in range(1, len(truth)):
        soft = video.step(tokens[t].reshape(h, w, -1))
        np.testing.assert_allclose(soft.permute(2, 0, 1), golden["vidB__default__soft"][t - 1], atol=2e-6)
        assert np.array_equal(masks(soft, geometry, 0, native, "view"), golden["vidB__default__masks"][t])


def slow(query: np.ndarray, sources: np.ndarray, labels: np.ndarray, rule: Rule) -> np.ndarray:
    h, w, _ = query.shape
    out = np.zeros((h, w, labels.shape[-1]))
    for y in range(h):
        for x in range(w):
            found = []
            for s in range(len(sources)):
                for yy in range(h):
                    for xx in range(w):
                        far = max(abs(y - yy), abs(x - xx)) if rule.window == "square" else math.hypot(y - yy, x - xx)
                        if far <= rule.radius or not rule.radius:
                            found.append((float(query[y, x] @ sources[s, yy, xx]), s, yy, xx))
            found.sort(key=lambda f: -f[0])
            last = found[min(rule.top_k, len(found)) - 1][0]
            kept = [f for f in found if f[0] >= last] if rule.ties else found[: rule.top_k]
            weights = np.exp([f[0] / rule.temperature for f in kept])
            for weight, (_, s, yy, xx) in zip(weights / weights.sum(), kept, strict=True):
                out[y, x] += weight * labels[s, yy, xx]
    return out


@settings(max_examples=40)
@given(
    st.integers(0, 10_000), st.integers(1, 15), st.integers(1, 15), st.integers(1, 3), st.integers(0, 6),
    st.integers(1, 7), st.sampled_from([DINO, DINOV3]),
)  # fmt: skip
def test_equals_the_slow_restatement(seed: int, h: int, w: int, frames: int, radius: int, k: int, rule: Rule):
    rng = np.random.default_rng(seed)
    made = rng.normal(size=(frames + 1, h, w, 5)).astype(np.float32)
    made /= np.linalg.norm(made, axis=-1, keepdims=True)
    labels = rng.random((frames, h, w, 3)).astype(np.float32)
    rule = replace(rule, radius=radius, top_k=k)
    found = propagate(*(torch.from_numpy(a) for a in (made[0], made[1:], labels)), rule)
    np.testing.assert_allclose(found, slow(made[0], made[1:], labels, rule), atol=1e-5)


def test_tokens_as_similar_as_the_last_count_too_or_not():
    query, sources = torch.ones(1, 4, 1), torch.ones(1, 1, 4, 1)
    labels = torch.eye(4).reshape(1, 1, 4, 4)
    every = propagate(query, sources, labels, replace(DINO, top_k=2))
    assert every.allclose(torch.full((1, 4, 4), 0.25))
    two = propagate(query, sources, labels, replace(DINO, top_k=2, ties=False))
    assert (two > 0).sum(-1).tolist() == [[2, 2, 2, 2]]


def test_only_the_neighbourhood_is_looked_at():
    query = torch.nn.functional.normalize(torch.randn(1, 40, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    sources = query.roll(13, dims=1)[None]  # the right answer is one patch too far away
    labels = torch.arange(40.0).reshape(1, 1, 40, 1)
    near = propagate(query, sources, labels, replace(DINO, top_k=1))[0, 20]
    assert propagate(query, sources, labels, replace(DINO, top_k=1, radius=13))[0, 20] == 33
    assert abs(near - 20) <= 12


def test_the_first_frame_and_the_last_few_are_remembered():
    video = Propagator(torch.eye(3)[None], torch.eye(3)[None], replace(DINO, context=2, top_k=1))
    for _ in range(5):
        assert torch.equal(video.step(torch.eye(3)[None]), torch.eye(3)[None])
    assert len(video._recent) == 2


def test_identical_frames_keep_their_masks_up_to_the_grid():
    stream = clips_stream(2, 4, "val", 3, noise=0.0)
    for part in stream:
        for i, key in enumerate(part.tokens.keys):
            video = key.rpartition("/")[0]
            first = next((p, p.tokens.keys.index(f"{video}/00")) for p in stream if f"{video}/00" in p.tokens.keys)
            part.tokens.fields["patch"][i] = first[0].tokens.fields["patch"][first[1]]
            part.targets[i]["segmentation"] = first[0].targets[first[1]]["segmentation"]
    for rule in (PropagationSettings(), DinoV3PropagationSettings()):
        rows = LabelPropagation(rule).measure(None, stream, context())
        assert rows.unit_id == ("val-0#1", "val-0#2", "val-1#1", "val-1#2")
        assert rows.group_id == ("val-0", "val-0", "val-1", "val-1")
        assert rows.stats["n_frames"].tolist() == [2] * 4
        j = {m.name: m for m in measures("tracking")}["J"].value(rows.sums(), rows.info)
        assert j > 75  # squares of 14 pixels on cells of 4

    first = torch.randn(12, 12, 16, generator=torch.Generator().manual_seed(1))
    labels = torch.rand(12, 12, 3, generator=torch.Generator().manual_seed(0))
    video = Propagator(first, labels, replace(DINO, top_k=1))
    assert all(video.step(first).allclose(labels) for _ in range(3))


def test_memory_does_not_grow_with_the_grid(monkeypatch):
    seen: list[int] = []
    weights = propagation._weights
    monkeypatch.setattr(propagation, "_weights", lambda s, rule: seen.append(s.numel()) or weights(s, rule))

    def largest(h: int, w: int) -> int:
        seen.clear()
        query = torch.nn.functional.normalize(torch.randn(h, w, 4), dim=-1)
        propagate(query, query[None], torch.rand(1, h, w, 2), replace(DINO, radius=4))
        return max(seen)

    assert largest(80, 30) == largest(40, 30) < (40 * 30) ** 2 / 10


def test_videos_too_short_or_without_objects_are_left_out_and_counted():
    stream = MemoryStream([*clips_stream(1, 4, "long", 3).batches, *clips_stream(1, 2, "short", 3).batches])
    blank = clips_stream(1, 4, "blank", 3)
    for part in blank:
        for target in part.targets:
            target["segmentation"] = np.full_like(target["segmentation"], 255)
    task = LabelPropagation(PropagationSettings())
    rows = task.measure(None, MemoryStream([*stream.batches, *blank.batches]), context())
    assert task.flags(None, rows) == {"videos": 1, "objects": 2, "videos_left_out": 2}
    with pytest.raises(DataError, match="three frames"):
        task.measure(None, blank, context())


def test_an_object_that_vanishes_is_right_when_nothing_is_said():
    stream = clips_stream(1, 4, "val", 3, noise=0.0)
    for part in stream:
        for target in part.targets[1:]:
            target["segmentation"] = np.where(target["segmentation"] == 2, 0, target["segmentation"])
    rows = LabelPropagation(PropagationSettings()).measure(None, stream, context())
    assert rows.stats["J"][1] == 0  # carried on although it is gone
    assert rows.stats["J"][0] > 0.6


def test_frames_out_of_order_and_keys_without_a_video_are_said():
    stream = clips_stream(1, 4, "val", 3)
    stream.batches[0].targets[2]["frames"]["index"] = 0
    with pytest.raises(DataError, match="frame 0 comes after frame 1"):
        LabelPropagation(PropagationSettings()).measure(None, stream, context())
    lone = clips_stream(1, 4, "val", 3)
    renamed = replace(lone.batches[0].tokens, keys=("a", "b", "c", "d"))
    with pytest.raises(DataError, match="names no video"):
        LabelPropagation(PropagationSettings()).measure(
            None, MemoryStream([replace(lone.batches[0], tokens=renamed)]), context()
        )


def test_a_frame_of_another_grid_is_named():
    stream = clips_stream(1, 4, "val", 3, batch_size=1)
    second = stream.batches[1]
    (h, w), old = second.tokens.geometry.grid_hw, second.tokens.geometry
    wider = Geometry(old.patch_px, (h, 2 * w), old.placements)
    fields = {"patch": second.tokens["patch"].repeat(1, 1, 2, 1)}
    stream.batches[1] = replace(second, tokens=replace(second.tokens, fields=fields, geometry=wider))
    with pytest.raises(TokensError, match=r"video 'val-0', frame 1: .* one size"):
        LabelPropagation(PropagationSettings()).measure(None, stream, context())


def test_grid_labels_are_those_at_the_centres_of_cells_and_nothing_in_padding():
    labels = np.arange(36).reshape(6, 6) + 1
    padded = Geometry(4, (2, 2), (Placement((6, 6), (8, 8), (6, 6)),))
    assert grid_labels(padded, 0, labels).tolist() == [[15, 0], [0, 0]]
    whole = Geometry(4, (2, 2), (Placement((6, 6), (8, 8), (8, 8), (0.75, 0.75)),))
    assert grid_labels(whole, 0, labels).tolist() == [[8, 11], [26, 29]]


@pytest.mark.parametrize(
    ("length", "cells"), [(8, 6), (14, 5), (480, 30), (480, 34), (720, 51), (854, 52), (400, 17), (7, 7)]
)
def test_the_first_mask_comes_to_the_grid_as_pillow_brings_it(length: int, cells: int):
    # 4.5 * 8 / 6 is 6, but Pillow adds up steps and lands below it.
    labels = np.arange(length, dtype=np.int32)[:, None].repeat(3, 1)
    view = (cells * 16, 16)
    geometry = Geometry(16, (cells, 1), (Placement((length, 3), view, view, (length / view[0], 3 / 16)),))
    expected = np.asarray(Image.fromarray(labels).resize((1, cells), Image.Resampling.NEAREST))
    assert np.array_equal(grid_labels(geometry, 0, labels, pillow=True), expected)
    exactly = (2 * np.arange(cells) + 1) * length // (2 * cells)
    assert np.array_equal(grid_labels(geometry, 0, labels)[:, 0], exactly)


@pytest.mark.parametrize("pillow", [True, False])
def test_a_mirrored_view_has_mirrored_labels(pillow: bool):
    labels = np.arange(48).reshape(6, 8) + 1
    straight, mirrored = (
        Geometry(4, (3, 4), (Placement((6, 8), (12, 16), (12, 16), (0.5, 0.5), flipped=f),)) for f in (False, True)
    )
    found = grid_labels(mirrored, 0, labels, pillow)
    assert np.array_equal(found, grid_labels(straight, 0, labels, pillow)[:, ::-1])


@settings(max_examples=60)
@given(
    st.integers(0, 10_000),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(2, 90),
    st.integers(2, 90),
)
def test_masks_equal_upsampling_stretching_and_pillow(seed: int, h: int, w: int, patch: int, high: int, wide: int):
    soft = torch.from_numpy(np.random.default_rng(seed).random((h, w, 3)).astype(np.float32))
    view = (h * patch, w * patch)
    geometry = Geometry(patch, (h, w), (Placement((high, wide), view, view, (high / view[0], wide / view[1])),))
    up = torch.nn.functional.interpolate(soft.permute(2, 0, 1)[None], view, mode="bilinear", align_corners=False)[0]
    small = stretched(up.permute(1, 2, 0)).argmax(-1).numpy().astype(np.uint8)
    expected = np.asarray(Image.fromarray(small).resize((wide, high), Image.Resampling.NEAREST))
    assert np.array_equal(masks(soft, geometry, 0, (high, wide), "view"), expected)


def test_stretching_brings_each_channel_to_its_own_range():
    soft = torch.tensor([[[0.2, 0.0, 0.5], [0.4, 0.0, 0.5]]])
    assert stretched(soft).tolist() == [[[0, 0, 0.5], [1, 0, 0.5]]]
