"""LOST against its released code and against a slow, obvious restatement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitbench.catalogue.tasks.discovery import LostNormSettings, LostSettings, SweptSettings, TokenCutSettings
from vitbench.errors import DataError, TokensError
from vitbench.metrics import measures
from vitbench.records.inference import summarise
from vitbench.tasks.lost import lost_boxes, seed_component_box
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.object_discovery import ObjectDiscovery, lost_field
from vitbench.tasks.true_boxes import true_boxes

from .streams import batch, context

PATCH = 16


def slow_lost(
    keys: np.ndarray, hw: tuple[int, int], k: int, bias: float, binary: bool = False
) -> tuple[list[int], int, bool]:
    n = hw[0] * hw[1]
    gram = [[float(keys[i] @ keys[j]) + bias for j in range(n)] for i in range(n)]
    degree = [sum(gram[i][j] > 0 for j in range(n) if j != i) for i in range(n)]
    order = sorted(range(n), key=lambda i: (degree[i], i))
    seed = order[0]
    similar = [p for p in order[:k] if gram[seed][p] > 0]
    mask = {j for j in range(n) if sum(gram[s][j] > 0 if binary else gram[s][j] for s in similar) > 0}
    if seed not in mask:
        return [seed % hw[1], seed // hw[1], seed % hw[1] + 1, seed // hw[1] + 1], seed, True
    component, todo = set(), [seed]
    while todo:
        cell = todo.pop()
        if cell in component or cell not in mask:
            continue
        component.add(cell)
        row, col = divmod(cell, hw[1])
        todo += [r * hw[1] + c for r, c in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1))
                 if 0 <= r < hw[0] and 0 <= c < hw[1]]  # fmt: skip
    rows, cols = [c // hw[1] for c in component], [c % hw[1] for c in component]
    return [min(cols), min(rows), max(cols) + 1, max(rows) + 1], seed, False


@pytest.mark.parametrize("case", ["raw_k100", "centred_k100"])
def test_boxes_and_seeds_equal_the_released_code(shared: Path, case: str):
    golden = np.load(shared / "golden" / "lost.npz")
    for i, ((h, w), (height, width)) in enumerate(zip(golden["dims"], golden["image_sizes"], strict=True)):
        keys = golden["keys_int8"][golden["offsets"][i] : golden["offsets"][i + 1]].astype(np.int64)
        if case.startswith("centred"):
            keys = keys - np.rint(keys.mean(0)).astype(np.int64)
        grid = torch.from_numpy(keys.astype(np.float32) * golden["key_scale"]).reshape(1, h, w, -1)
        made = batch({"key": grid}, [{"image_hw": (int(height), int(width))}], PATCH)
        found = lost_boxes(grid, k=100)
        assert found.seeds[0] == golden[f"{case}__seeds_stable"][i]
        assert np.array_equal(made.tokens.geometry.to_pixels(0, found.boxes)[0], golden[f"{case}__boxes_stable"][i])


def made_up_keys(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    """2 n c, whole numbers: many ties, exact sums."""
    if kind == "all_positive":
        return rng.integers(1, 5, (2, n, 3))
    if kind == "all_negative":  # between different patches
        return np.stack([n * np.eye(n) - 1] * 2)
    if kind == "blocks":  # orthogonal groups of either sign, and patches that are zero
        return np.eye(4)[rng.integers(0, 4, (2, n))] * rng.integers(-1, 3, (2, n, 1))
    if kind == "constant":
        return np.ones((2, n, 1)) * rng.integers(-1, 2)
    return rng.integers(-3, 4, (2, n, 3))


@settings(max_examples=100)
@given(
    st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6), st.integers(1, 40), st.integers(-12, 12), st.booleans(),
    st.sampled_from(["any", "any", "all_positive", "all_negative", "blocks", "constant"]),
)  # fmt: skip
def test_equals_the_slow_restatement(seed: int, h: int, w: int, k: int, bias: int, binary: bool, kind: str):
    keys = made_up_keys(np.random.default_rng(seed), kind, h * w).astype(np.float32)
    found = lost_boxes(torch.from_numpy(keys).reshape(2, h, w, -1), k, float(bias), binary=binary)
    for i in range(2):
        box, first, outside = slow_lost(keys[i], (h, w), k, bias, binary)
        assert (found.boxes[i].tolist(), found.seeds[i], found.outside[i]) == (box, first, outside)


def test_tokens_are_brought_to_unit_length_after_centring():
    rng = np.random.default_rng(0)
    keys = torch.from_numpy(rng.normal(size=(2, 4, 5, 3)) + 2).float()
    centred = keys - keys.mean((1, 2), keepdim=True)
    found = lost_boxes(keys, 5, 0.05, centre=True, unit=True)
    expected = lost_boxes(torch.nn.functional.normalize(centred, dim=-1), 5, 0.05)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    assert not np.array_equal(found.boxes, lost_boxes(keys, 5, 0.05).boxes)


def test_a_block_of_similar_patches_gives_its_exact_box():
    keys = torch.full((1, 8, 10, 2), -1.0)
    keys[..., 1] = 0.0
    keys[0, 2:5, 3:9, 0] = 1.0
    assert lost_boxes(keys).boxes[0].tolist() == [3, 2, 9, 5]


def test_an_all_positive_gram_gives_the_whole_image_and_is_flagged():
    grid = torch.rand(1, 5, 6, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    made = batch({"key": grid}, [{"image_hw": (20, 22), "boxes": np.array([[2.0, 2, 8, 8]])}], 4)
    rows = ObjectDiscovery(LostSettings()).measure(None, MemoryStream([made]), context())
    assert rows.stats["box"].tolist() == [[0, 0, 22, 20]]
    found = {m.name: float(m.value(rows.sums(), rows.info)) for m in measures("boxes")}
    assert found["degenerate"] == 100
    assert found["CorLoc"] == found["CorLoc_whole_image"] == 0


def test_centring_takes_the_common_component_away():
    keys = torch.full((1, 6, 6, 2), 0.0)
    keys[0, 1:3, 1:4, 0] = 1.0
    shifted = keys + 10
    assert lost_boxes(shifted).boxes[0].tolist() == [0, 0, 6, 6]
    assert lost_boxes(shifted, centre=True).boxes[0].tolist() == [1, 1, 4, 3]


def test_a_seed_outside_its_mask_gives_its_cell_and_is_counted():
    grid = torch.eye(4).reshape(1, 2, 2, 4)
    found = lost_boxes(grid, gram_bias=-5.0)
    assert found.outside.all()
    assert found.boxes[0].tolist() == [0, 0, 1, 1]
    made = batch({"key": grid}, [{"image_hw": (8, 8), "boxes": np.array([[0.0, 0, 4, 4]])}], 4)
    rows = ObjectDiscovery(LostSettings(gram_bias=-5.0)).measure(None, MemoryStream([made]), context())
    assert rows.stats["seed_outside"].tolist() == [1]


def test_images_without_boxes_are_left_out_and_counted():
    grid = torch.rand(2, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    targets = [
        {"image_hw": (8, 8), "boxes": np.zeros((0, 4))},
        {"image_hw": (8, 8), "boxes": np.array([[0.0, 0, 8, 8]])},
    ]
    task = ObjectDiscovery(LostSettings())
    rows = task.measure(None, MemoryStream([batch({"value": grid}, targets, 4)]), context())
    flags = task.flags(None, rows)
    assert (flags["images_with_boxes"], flags["images_without_boxes"]) == (1, 1)
    assert rows.sums()["n"] == 1


@pytest.mark.parametrize(
    "asked",
    [LostSettings(no_hard=True), SweptSettings(no_hard=True, blocks=1, bias_steps=0), TokenCutSettings(no_hard=True),
     LostNormSettings(no_hard=True)],
    ids=lambda s: type(s).__name__,
)  # fmt: skip
def test_without_hard_boxes_fewer_images_are_scored_and_the_number_is_a_measure(asked):
    boxes = np.array([[0.0, 0, 8, 8], [0, 0, 4, 4]])
    hard = ([False, True], [True, True], [])
    targets = [{"image_hw": (8, 8), "boxes": boxes[: len(h)], "boxes_hard": h} for h in hard]
    tokens = torch.rand(3, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    stream = MemoryStream([batch(dict.fromkeys(("key", "query", "value", "patch"), tokens), targets, 4)])
    for no_hard, scored in ((False, 2), (True, 1)):
        task = ObjectDiscovery(replace(asked, no_hard=no_hard))
        rows = task.measure(None, stream, context())
        found = {m.name: float(m.value(rows.sums(), rows.info)) for m in measures("boxes")}
        flags = task.flags(None, rows)
        assert found["images"] == flags["images_with_boxes"] == scored
        assert flags["images_without_boxes"] == 3 - scored
        assert found["CorLoc_whole_image"] == 100 * 1  # the box that is not hard is the image
    summary = summarise(rows, measures("boxes"))["images"]
    assert (summary.value, summary.ci_low) == (1, None)


def test_a_hard_box_is_not_hit_and_a_data_set_without_marks_says_so():
    target = {"boxes": [[0, 0, 4, 4], [4, 4, 8, 8]], "boxes_hard": [True, False]}
    assert true_boxes(target, True).tolist() == [[4, 4, 8, 8]]
    assert len(true_boxes(target, False)) == 2
    assert true_boxes({"boxes": [], "boxes_hard": []}, True).shape == (0, 4)
    with pytest.raises(DataError, match="does not mark which boxes are hard"):
        true_boxes({"boxes": [[0, 0, 4, 4]]}, True)


def test_boxes_that_are_mostly_the_whole_image_are_flagged():
    alike = torch.ones(1, 3, 3, 2)  # every entry of the Gram matrix is positive
    corner = -torch.ones(1, 3, 3, 2)
    corner[0, 0, 0] = 1
    task, target = ObjectDiscovery(LostSettings()), {"image_hw": (12, 12), "boxes": np.array([[0.0, 0, 4, 4]])}
    for keys, expected in ((alike, True), (corner, False)):
        rows = task.measure(None, MemoryStream([batch({"key": keys}, [target], 4)]), context())
        assert ("mostly_whole_image_boxes" in task.flags(None, rows)) is expected
        cut = ObjectDiscovery(TokenCutSettings())
        flags = cut.flags(None, cut.measure(None, MemoryStream([batch({"key": keys}, [target], 4)]), context()))
        assert ("mostly_nothing_to_cut" in flags) is expected


def test_components_join_along_edges_and_not_corners():
    mask = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 1]], bool)
    assert seed_component_box(mask, 0)[0].tolist() == [0, 0, 2, 1]


def test_a_missing_field_is_said():
    made = batch({"patch": torch.zeros(1, 2, 2, 3)}, [{"image_hw": (8, 8)}], 4)
    with pytest.raises(TokensError, match="query, key or value"):
        lost_field(made.tokens, "auto")
