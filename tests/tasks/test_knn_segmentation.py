"""k-NN segmentation against open-hummingbird-eval and a slow restatement."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitbench.catalogue.tasks.segmentation import HummingbirdSettings
from vitbench.errors import DataError
from vitbench.metrics import measures
from vitbench.metrics.matching import matched_classes
from vitbench.tasks.knn_segmentation import KnnSegmentation, rare_first
from vitbench.tasks.memory import MemoryStream

from .streams import batch, context, scenes_stream


def value(rows, name):
    return float(next(m for m in measures("segmentation") if m.name == name).value(rows.sums(), rows.info))


def golden_streams(golden):
    tokens = torch.from_numpy(golden["feats_int8"].astype(np.float32) * golden["feat_scale"]).reshape(-1, 14, 14, 192)

    def stream(index, split):
        targets = [{"image_hw": (224, 224), "segmentation": golden["masks"][i]} for i in index]
        return MemoryStream([batch({"patch": tokens[index]}, targets, 16, split)], split)

    return stream(golden["train_index"], "train"), stream(golden["val_index"], "val")


@pytest.fixture(scope="module")
def reference(shared: Path):
    golden = np.load(shared / "golden" / "hummingbird.npz")
    train, val = golden_streams(golden)
    task = KnnSegmentation(HummingbirdSettings(memory_size=0, compat=True))
    memory = task.fit(train, context(8))
    return golden, task, memory, val


def test_the_memory_equals_the_reference(reference):
    golden, _, memory, _ = reference
    assert len(memory.neighbours) == golden["unbounded_k30__memory_rows"]
    np.testing.assert_allclose(memory.labels, golden["unbounded_k30__label_memory"], atol=1e-3)


def test_soft_labels_equal_the_reference(reference):
    golden, _, memory, val = reference
    queries = val.batches[0].tokens["patch"].reshape(-1, 192)
    found = memory.soft_labels(queries, 30, 0.02).reshape(12, 196, 8)
    np.testing.assert_allclose(found, golden["unbounded_k30__label_hat"], atol=1e-4)


def test_counts_and_miou_equal_the_reference(reference):
    golden, task, memory, val = reference
    rows = task.measure(memory, val, context(8))
    tp, fp, fn = golden["unbounded_k30__tp_fp_fn"]
    # Pixels where two classes tie to the last bit of float32 may fall either way.
    for name, expected in (("tp", tp), ("fp", fp), ("fn", fn)):
        np.testing.assert_allclose(rows.stats[name].sum(0), expected, atol=20)
    assert value(rows, "mIoU") == pytest.approx(100 * float(golden["unbounded_k30__miou"]), abs=0.01)


def made_up(rng, images, hw, patch, ignore, split):
    """Tokens and masks of 4 classes; void (255) too, unless another label is the ignored one."""
    targets = []
    for _ in range(images):
        mask = rng.integers(0, 4, (hw[0] * patch, hw[1] * patch)).astype(np.uint8)
        mask[rng.random(mask.shape) < 0.3] = ignore
        mask[: patch * (hw[0] // 2)] = ignore  # whole cells
        targets.append({"image_hw": mask.shape, "segmentation": mask})
    tokens = torch.from_numpy(rng.normal(size=(images, *hw, 5)).astype(np.float32))
    return MemoryStream([batch({"patch": tokens}, targets, patch, split)], split)


def slow_memory(train, patch, ignore, compat):
    features, labels = [], []
    for x, target in zip(train.batches[0].tokens["patch"].numpy(), train.batches[0].targets, strict=True):
        for r, c in np.ndindex(*x.shape[:2]):
            cell = target["segmentation"][patch * r : patch * (r + 1), patch * c : patch * (c + 1)]
            cell = np.where(cell == 255, 0, cell) if compat else cell[cell != ignore]
            if cell.size:
                features.append(x[r, c] / np.linalg.norm(x[r, c]))
                labels.append([(cell == k).mean() for k in range(4)])
    return np.array(features), np.array(labels)


@settings(max_examples=40)
@given(
    st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 5, 30, 1000]),
    st.sampled_from([0.005, 0.02, 1.0, 50.0]), st.booleans(), st.sampled_from([0, 255]),
)  # fmt: skip
def test_equals_a_slow_restatement(
    seed: int, h: int, w: int, patch: int, k: int, temperature: float, compat: bool, ignore: int
):
    rng = np.random.default_rng(seed)
    train, val = (made_up(rng, 3, (h, w), patch, ignore, split) for split in ("train", "val"))
    train.batches[0].targets[0]["segmentation"][-1, -1] = 1  # something to remember
    ctx = context(4)
    ctx = replace(ctx, dataset=replace(ctx.dataset, ignore_index=ignore))
    task = KnnSegmentation(HummingbirdSettings(memory_size=0, k=k, temperature=temperature, compat=compat))
    memory = task.fit(train, ctx)
    features, labels = slow_memory(train, patch, ignore, compat)
    np.testing.assert_allclose(memory.labels, labels, atol=1e-6)
    queries = val.batches[0].tokens["patch"].reshape(-1, 5)
    expected = []
    for q in queries.numpy():
        cosine = features @ (q / np.linalg.norm(q))
        near = np.argsort(-cosine)[:k]
        attention = np.exp((cosine[near] - cosine[near[0]]) / temperature)
        expected.append(attention @ labels[near] / attention.sum())
    np.testing.assert_allclose(memory.soft_labels(queries, k, temperature), expected, atol=5e-4)
    rows = task.measure(memory, val, ctx)
    counted = sum((t["segmentation"] != ignore).sum() for t in val.batches[0].targets)
    assert rows.stats["tp"].sum() + rows.stats["fn"].sum() == counted
    if compat and ignore == 0:  # remembered, never true where it is scored, and in the mean all the same
        assert rows.stats["tp"].sum(0)[0] == 0


def test_void_as_a_class_of_its_own_is_what_the_reference_makes_of_ade20k():
    def streams(labels):
        rng = np.random.default_rng(3)
        made = [made_up(rng, 3, (3, 4), 4, 0, split) for split in ("train", "val")]
        for stream in made:
            for target in stream.batches[0].targets:
                target["segmentation"] = labels(target["segmentation"])
        return made

    def scored(classes, ignore, **chosen):
        # Label 0 is "other"; or, as in this suite, it is void and the classes count from 0.
        train, val = streams(lambda m: m if not ignore else np.where(m == 0, np.uint8(255), m - np.uint8(1)))
        ctx = context(classes)
        ctx = replace(ctx, dataset=replace(ctx.dataset, ignore_index=ignore))
        task = KnnSegmentation(HummingbirdSettings(memory_size=0, compat=True, **chosen))
        memory = task.fit(train, ctx)
        return memory.labels, value(task.measure(memory, val, ctx), "mIoU")

    released, reduced, into_first = scored(4, 0), scored(3, 255, void="own"), scored(3, 255)
    assert torch.equal(released[0].roll(-1, dims=1), reduced[0])
    assert released[1] == pytest.approx(reduced[1])
    assert abs(into_first[1] - reduced[1]) > 1


def test_an_undeclared_class_of_the_test_images_cannot_be_told_from_void_as_a_class():
    train, val = (made_up(np.random.default_rng(3), 3, (3, 4), 4, 255, split) for split in ("train", "val"))
    val.batches[0].targets[0]["segmentation"][0, 0] = 7
    task = KnnSegmentation(HummingbirdSettings(memory_size=0, compat=True, void="own"))
    with pytest.raises(DataError, match="shows a class that no train image has"):
        task.measure(task.fit(train, context()), val, context())


def test_memory_equal_to_query_scores_everything_right():
    labels = np.kron(np.arange(4).reshape(2, 2), np.ones((4, 4))).astype(np.uint8)
    tokens = torch.randn(3, 2, 2, 8, generator=torch.Generator().manual_seed(0))
    stream = MemoryStream([batch({"patch": tokens}, [{"image_hw": (8, 8), "segmentation": labels}] * 3, 4)])
    task = KnnSegmentation(HummingbirdSettings(k=1))
    rows = task.measure(task.fit(stream, context(4)), stream, context(4))
    assert value(rows, "patch_accuracy") == value(rows, "mIoU") == 100


def test_a_bounded_memory_keeps_the_same_number_per_image_and_depends_on_seed_and_key_alone():
    train = scenes_stream(7, "train", 0)
    task = KnnSegmentation(HummingbirdSettings(memory_size=100))
    labels = task.fit(train, context(6)).labels
    assert len(labels) == 7 * (100 // 7)
    rebatched = scenes_stream(7, "train", 0, batch_size=2)
    assert torch.equal(task.fit(rebatched, context(6)).labels, labels)
    assert not torch.equal(task.fit(train, context(6, seed=1)).labels, labels)


def test_rare_classes_are_kept_first():
    labels = np.zeros((100, 3), np.float32)
    labels[:, 0] = 1
    labels[7] = [0, 1, 0]
    labels[50] = [0, 0, 1]
    kept = rare_first(labels, 10, np.random.default_rng(0))
    assert {7, 50} <= set(kept.tolist())
    assert len(kept) == 10
    assert np.array_equal(rare_first(labels, 200, np.random.default_rng(0)), np.arange(100))


def test_void_is_left_out_unless_the_reference_is_reproduced():
    mask = np.full((8, 8), 255, np.uint8)
    mask[:4, :4] = 1
    tokens = torch.randn(2, 2, 2, 8, generator=torch.Generator().manual_seed(0))
    stream = MemoryStream([batch({"patch": tokens}, [{"image_hw": (8, 8), "segmentation": mask}] * 2, 4)])
    assert len(KnnSegmentation(HummingbirdSettings(memory_size=0)).fit(stream, context(2)).labels) == 2
    compat = KnnSegmentation(HummingbirdSettings(memory_size=0, compat=True)).fit(stream, context(2)).labels
    assert compat.sum(0).tolist() == [6, 2]


@pytest.mark.parametrize("seed", range(8))
def test_under_compat_miou_is_the_best_of_all_renamings_with_absent_classes_at_zero(seed):
    rng = np.random.default_rng(seed)
    train, val = (made_up(rng, 2, (2, 3), 3, 255, split) for split in ("train", "val"))
    for target in val.batches[0].targets:
        target["segmentation"][target["segmentation"] == 3] = 0  # a class that is not there
    task = KnnSegmentation(HummingbirdSettings(memory_size=0, k=3, compat=True))
    memory = task.fit(train, context(4))
    rows = task.measure(memory, val, context(4))
    matrix = sum(task._score(b, i, _soft(memory, b, i), context(4)) for b in val for i in range(2))
    best = 0.0
    for names in itertools.permutations(range(4)):
        renamed = matrix[:, list(names)]
        union = renamed.sum(0) + renamed.sum(1) - renamed.diagonal()
        best = max(best, float((renamed.diagonal() / np.maximum(union, 1)).mean()))
    assert value(rows, "mIoU") == pytest.approx(100 * best)


def _soft(memory, part, i):
    tokens = part.tokens["patch"][i]
    return memory.soft_labels(tokens.flatten(0, 1), 3, 0.02).reshape(*tokens.shape[:2], -1)


def test_hungarian_matching_undoes_a_permutation_of_predictions():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 500)
    predicted = np.array([2, 0, 3, 1])[truth]
    matrix = np.zeros((4, 4), np.int64)
    np.add.at(matrix, (truth, predicted), 1)
    assert np.array_equal(matched_classes(matrix)[predicted], truth)


def test_a_train_split_without_labels_is_said():
    mask = np.full((4, 4), 255, np.uint8)
    stream = MemoryStream([batch({"patch": torch.ones(1, 1, 1, 2)}, [{"image_hw": (4, 4), "segmentation": mask}], 4)])
    with pytest.raises(DataError, match="no pixel"):
        KnnSegmentation(HummingbirdSettings()).fit(stream, context(2))
