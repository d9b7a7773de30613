"""k-NN segmentation against open-hummingbird-eval and a slow restatement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

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


def test_equals_a_slow_restatement():
    train, val = scenes_stream(6, "train", 0), scenes_stream(3, "val", 1)
    task = KnnSegmentation(HummingbirdSettings(memory_size=0, k=5))
    memory = task.fit(train, context(6))
    features, labels = [], []
    for part in train:
        for tokens, target in zip(part.tokens["patch"], part.targets, strict=True):
            for r in range(8):
                for c in range(10):
                    cell = target["segmentation"][4 * r : 4 * r + 4, 4 * c : 4 * c + 4]
                    if (cell != 255).any():
                        features.append(tokens[r, c].numpy() / np.linalg.norm(tokens[r, c]))
                        labels.append([(cell[cell != 255] == k).mean() for k in range(6)])
    features, labels = np.array(features), np.array(labels)
    queries = val.batches[0].tokens["patch"][0].reshape(-1, 24)
    expected = []
    for q in queries.numpy():
        cosine = features @ (q / np.linalg.norm(q))
        near = np.argsort(-cosine)[:5]
        attention = np.exp(cosine[near] / 0.02)
        expected.append(attention @ labels[near] / attention.sum())
    np.testing.assert_allclose(memory.soft_labels(queries, 5, 0.02), expected, atol=1e-4)


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
