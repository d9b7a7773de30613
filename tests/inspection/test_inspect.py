"""Looking through a backbone: what is shown is what the repairs give, and what cannot be applied says why."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from vitbench.backbones.controls import PatchColour
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.views import View
from vitbench.catalogue.weights import WeightsState
from vitbench.data.load import load
from vitbench.engine.jobs import Workbench
from vitbench.engine.options import RunOptions
from vitbench.errors import NotApplicableError
from vitbench.inspection.fits import MemoryFitContext, TrainTokens
from vitbench.inspection.inspect import Settings, inspect
from vitbench.inspection.looks import Inspection, norm_numbers, similarity
from vitbench.inspection.quick import Targets, classes_of, depth_of, quick_heads
from vitbench.repairs.synthetic_vit import PATCH_PX, synthetic_vit
from vitbench.tasks.lost import lost_boxes
from vitbench.tokens.types import TokenRequest

REPAIRS = ("none", "center", "center+unit", "unit", "maskclip", "registers", "norm_clip")
FIT_IMAGES = 5


@cache
def seen() -> Inspection:
    rng = np.random.default_rng(0)
    images = [
        ("wide", rng.integers(0, 255, (40, 64, 3), np.uint8)),
        ("odd", rng.integers(0, 255, (53, 35, 3), np.uint8)),
    ]
    bench = Workbench(RunOptions(device="cpu"), {"tiny": synthetic_vit()})
    return inspect(bench, "tiny", REPAIRS, images, Settings(fit_images=FIT_IMAGES, predict=True))


def row(repair: str):
    return next(r for r in seen().rows if r.repair == repair)


def test_every_repair_is_a_row_and_every_image_a_look_on_its_own_grid() -> None:
    assert [r.repair for r in seen().rows] == list(REPAIRS)
    for r in seen().seen:
        assert [look.grid_hw for look in r.looks] == [(5, 8), (7, 4)]
        assert all(look.norms.shape == (3, *look.grid_hw) for look in r.looks)


def test_a_repair_that_cannot_be_applied_says_why() -> None:
    assert "no register twin" in row("registers").refused
    assert row("registers") not in seen().seen


def test_the_first_row_must_be_there() -> None:
    bench = Workbench(RunOptions(device="cpu"), {"tiny": synthetic_vit()})
    with pytest.raises(NotApplicableError, match="no register twin"):
        inspect(bench, "tiny", ["registers"], [("x", np.zeros((16, 16, 3), np.uint8))], Settings())


def test_maps_are_fitted_on_the_train_split_and_leave_the_forward_alone() -> None:
    train = load("scenes", "train", limit=FIT_IMAGES)
    images = [sample["image"] for sample in train]
    view = View("resize", 24 * PATCH_PX).snapped(PATCH_PX)
    tokens = synthetic_vit().tokens(images, TokenRequest(("patch",), view), [str(i) for i in range(len(images))])
    mean = tokens["patch"].flatten(0, 2).mean(0).numpy()
    for plain, centred in zip(row("none").looks, row("center").looks, strict=True):
        assert np.allclose(plain.patch - mean, centred.patch, atol=1e-4)
        assert np.array_equal(plain.norms, centred.norms)
    assert not row("center").own_forward
    assert row("maskclip").own_forward
    assert f"{FIT_IMAGES} train images of scenes" in seen().fitted_on


def test_a_chain_maps_with_what_each_part_was_fitted_for() -> None:
    lengths = np.linalg.norm(row("center+unit").looks[0].patch, axis=-1)
    assert np.allclose(lengths, 1, atol=1e-4)


def test_fields_are_those_that_the_repair_acts_on() -> None:
    assert row("none").fields == ()
    assert "key" in row("center").fields
    assert "key" not in row("maskclip").fields
    assert "norms" not in row("center").fields


def test_the_box_is_losts_on_the_keys() -> None:
    picture = seen().pictures[1]
    keys = synthetic_vit().tokens([picture.pixels], TokenRequest(("key",)), ["x"])["key"]
    found = lost_boxes(keys)
    look = row("none").looks[1]
    assert look.box == tuple(found.boxes[0].tolist())
    assert look.seed == divmod(int(found.seeds[0]), 4)


def test_norm_numbers_count_what_stands_out() -> None:
    plain = row("none")
    found = norm_numbers(plain)
    norms = np.concatenate([look.norms.reshape(3, -1) for look in plain.looks], axis=1).astype(np.float64)
    median = np.median(norms, axis=1, keepdims=True)
    limit = median + 10 * np.median(np.abs(norms - median), axis=1, keepdims=True)
    assert found["outliers_mad"] == pytest.approx(100 * (norms[-1] > limit[-1]).mean())
    assert found["outliers_mad_worst_block"] == pytest.approx(100 * (norms > limit).mean(1).max())
    assert "outliers_cutoff" not in found


def test_a_map_has_numbers_of_the_last_block_only() -> None:
    found = norm_numbers(row("norm_clip"))
    assert found.keys() == {"outliers_mad", "outliers_3std", "max_over_median"}
    assert found["max_over_median"] <= norm_numbers(row("none"))["max_over_median"] + 1e-6


def test_tokens_of_one_length_have_no_outliers() -> None:
    found = norm_numbers(row("unit"))
    assert found["outliers_mad"] == 0
    assert found["outliers_3std"] == 0
    assert found["max_over_median"] == pytest.approx(1, abs=1e-5)


def test_similarity_is_a_cosine() -> None:
    look = row("none").looks[0]
    values = similarity(look, (2, 3))
    assert values.shape == look.grid_hw
    assert values[2, 3] == pytest.approx(1, abs=1e-6)
    assert np.abs(values).max() <= 1 + 1e-6
    a, b = look.patch[2, 3], look.patch[0, 0]
    assert values[0, 0] == pytest.approx(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), abs=1e-5)


def test_the_quick_heads_give_one_class_and_one_depth_a_cell() -> None:
    assert len(seen().classes) == 10
    for look in row("center").looks:
        assert look.classes is not None
        assert look.classes.shape == look.grid_hw
        assert look.classes.max() < 10
        assert look.depth_m is not None
        assert look.depth_m.shape == look.grid_hw
        assert look.depth_m.min() > 0


def test_the_quick_heads_learn_what_linear_heads_can() -> None:
    card = BackboneCard("colour", None, "control", "control", 8, 0, 0, 192, 0, mean=(0.5,) * 3, std=(0.5,) * 3)
    model = PatchColour(card, WeightsState("ready", "none", "x"))
    rng = np.random.default_rng(1)
    dark = rng.random((8, 4, 4)) < 0.5
    cells = np.where(dark, 40, 200).repeat(8, 1).repeat(8, 2)
    images = [np.stack([c + rng.integers(-9, 9, c.shape)] * 3, -1).astype(np.uint8) for c in cells]
    labels, depths = [np.where(c < 100, 1, 0) for c in cells], [np.where(c < 100, 2.0, 5.0) for c in cells]
    targets = Targets({"segmentation": labels, "depth": depths}, ("bright", "dark"))
    train = TrainTokens(model, images, View("whole"))
    heads = quick_heads(MemoryFitContext(train, "patch", (), ()), targets)
    tokens = model.tokens(images[:1], TokenRequest(("patch",)), ["x"])
    assert np.array_equal(classes_of(heads["segmentation"], tokens, "patch"), dark[0].astype(np.uint8))
    assert np.allclose(depth_of(heads["depth"], tokens, "patch"), np.where(dark[0], 2, 5), rtol=0.1)


def test_tokens_of_a_field_are_extracted_once() -> None:
    class Counting(PatchColour):
        calls = 0

        def _features(self, pixels: torch.Tensor, grid_hw: tuple[int, int]) -> torch.Tensor:
            Counting.calls += 1
            return super()._features(pixels, grid_hw)

    card = BackboneCard("colour", None, "control", "control", 8, 0, 0, 192, 0)
    model = Counting(card, WeightsState("ready", "none", "x"))
    train = TrainTokens(model, [np.zeros((16, 16, 3), np.uint8)] * 3, View("whole"))
    assert [len(t) for t in train.batches(("patch",))] == [3]
    list(train.batches(("patch",)))
    assert Counting.calls == 1
    [both] = train.batches(("patch", "key"))
    assert Counting.calls == 2
    assert {"patch", "key"} <= both.fields.keys()
    swept = TrainTokens(model, [np.zeros((16, 16, 3), np.uint8)], View("whole"), ("key", "norms"))
    list(swept.batches(("patch",)))
    list(swept.batches(("key", "norms", "patch")))
    assert Counting.calls == 3
