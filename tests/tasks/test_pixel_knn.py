"""k-NN that copies pixels, against CAPI's own output and a slow restatement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score

from vitbench.catalogue.tasks.segmentation_knn import CapiKnnSettings
from vitbench.errors import DataError, UsageError
from vitbench.heads.holdout import holdout_keys
from vitbench.metrics import measures
from vitbench.tasks.memory import MemoryStream
from vitbench.tasks.pixel_knn import CellMemory, PixelKnnSegmentation, pixel_votes
from vitbench.tasks.token_rows import ChannelScale

from .streams import batch, context, scenes_stream


def value(rows, name):
    return float(next(m for m in measures("segmentation") if m.name == name).value(rows.sums(), rows.info))


@pytest.fixture(scope="module")
def golden(shared: Path):
    return np.load(shared / "golden" / "capi_knn_seg.npz")


def stream(golden, split):
    tokens = torch.from_numpy(golden[f"{split}_feats_int8"].astype(np.float32) * golden["feat_scale"])
    targets = [{"image_hw": (224, 224), "segmentation": mask} for mask in golden[f"{split}_masks"]]
    return MemoryStream([batch({"patch": tokens.reshape(-1, 14, 14, 192)}, targets, 16, split)], split)


def classes(golden):
    labels = np.concatenate([golden["train_masks"].ravel(), golden["test_masks"].ravel()])
    return int(labels[labels != 255].max()) + 1


def test_the_scaler_is_that_of_the_reference(golden):
    scale = ChannelScale.fit(stream(golden, "train"), "patch")
    np.testing.assert_allclose(scale.mean, golden["scaler_mean"], atol=1e-4)
    np.testing.assert_allclose(scale.scale, golden["scaler_scale"], rtol=1e-4)


@pytest.mark.parametrize("case", ["std_k10_cosine", "raw_k3_L2"])
def test_pixels_miou_and_accuracy_equal_the_reference(golden, case):
    if f"{case}__pred" not in golden.files:
        pytest.skip(f"case {case} is not in this copy of the golden values")
    how, k, distance = case.split("_")
    settings = CapiKnnSettings(ks=k[1:], distances=distance.lower(), standardise=how == "std", compat=True)
    task, n = PixelKnnSegmentation(settings), classes(golden)
    head = task.fit(stream(golden, "train"), context(n))
    test = stream(golden, "test")
    queries = test.batches[0].tokens["patch"].flatten(0, 2)
    near = head.memory.nearest(head.scale(queries) if head.scale else queries, head.k)
    predicted = pixel_votes(head.memory.pixels[near], n + 1).argmax(-1)
    expected = golden[f"{case}__pred"].astype(int)
    same = predicted == np.where(expected == 255, n, expected)
    assert same.mean() > 0.9999  # neighbours at equal distance may come in another order
    miou, accuracy = golden[f"{case}__miou_acc"]
    rows = task.measure(head, test, context(n))
    assert value(rows, "mIoU") == pytest.approx(100 * miou, abs=0.02)
    assert value(rows, "aAcc") == pytest.approx(100 * accuracy, abs=0.01)


def test_void_is_no_class_of_its_own_unless_the_reference_is_reproduced(golden):
    task = PixelKnnSegmentation(CapiKnnSettings(ks="10", distances="cosine"))
    n = classes(golden)
    rows = task.measure(task.fit(stream(golden, "train"), context(n)), stream(golden, "test"), context(n))
    assert value(rows, "mIoU") == pytest.approx(38.4, abs=0.05)
    assert rows.stats["tp"].shape[1] == n


@pytest.mark.parametrize("seed", range(12))
def test_scores_are_those_of_scikit_learn_on_any_grid(seed):
    rng = np.random.default_rng(seed)
    (h, w), patch, k = rng.integers(1, 6, 2), int(rng.choice([1, 2, 3, 7])), int(rng.choice([1, 3, 10, 500]))

    def made(images, split):
        masks = rng.integers(0, 4, (images, h * patch, w * patch)).astype(np.uint8)
        masks[rng.random(masks.shape) < 0.4] = 255
        masks[0, 0, 0] = 1
        masks[0, :patch, :patch] = 1  # one cell to remember
        targets = [{"image_hw": m.shape, "segmentation": m} for m in masks]
        x = rng.normal(size=(images, h, w, 5)).astype(np.float32) + 30 * (seed % 2)
        return MemoryStream([batch({"patch": torch.from_numpy(x)}, targets, patch, split)], split), x, masks

    (train, x, masks), (val, q, truth) = made(3, "train"), made(2, "val")
    distance = "l2" if seed % 3 else "cosine"
    task = PixelKnnSegmentation(CapiKnnSettings(ks=str(k), distances=distance, standardise=False, compat=True))
    rows = task.measure(task.fit(train, context(4)), val, context(4))

    def cut(m):
        return m.reshape(-1, h, patch, w, patch).transpose(0, 1, 3, 2, 4).reshape(-1, patch * patch)

    def mode(labels):
        values, counts = np.unique(labels, return_counts=True)
        return values[counts.argmax()]

    kept = np.array([mode(cell) != 255 for cell in cut(masks)])
    memory, labels = x.reshape(-1, 5)[kept].astype(np.float64), cut(masks)[kept]
    predicted = []
    for token in q.reshape(-1, 5).astype(np.float64):
        cosine = memory @ token / np.linalg.norm(memory, axis=1) / np.linalg.norm(token)
        order = np.argsort(-cosine if distance == "cosine" else ((memory - token) ** 2).sum(1), kind="stable")[:k]
        predicted.append([mode(pixel) for pixel in labels[order].T])
    shown = cut(truth) != 255
    pair = cut(truth)[shown], np.array(predicted)[shown]
    assert value(rows, "mIoU") == pytest.approx(100 * jaccard_score(*pair, average="macro", zero_division=0))
    assert value(rows, "aAcc") == pytest.approx(100 * (pair[0] == pair[1]).mean())


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_equals_a_slow_restatement(distance):
    train, val = scenes_stream(5, "train", 0), scenes_stream(2, "val", 1)
    task = PixelKnnSegmentation(CapiKnnSettings(ks="3", distances=distance, standardise=False))
    head = task.fit(train, context(6))
    tokens, pixels = [], []
    for part in train:
        for x, target in zip(part.tokens["patch"].numpy(), part.targets, strict=True):
            for r in range(8):
                for c in range(10):
                    cell = target["segmentation"][4 * r : 4 * r + 4, 4 * c : 4 * c + 4].ravel()
                    counts = np.bincount(np.where(cell == 255, 6, cell), minlength=7)
                    if counts.argmax() != 6:
                        tokens.append(x[r, c])
                        pixels.append(np.where(cell == 255, 6, cell))
    tokens, pixels = np.array(tokens), np.array(pixels)
    assert len(head.memory) == len(tokens)
    truth, found = np.zeros(6), np.zeros(6)
    for part in val:
        for x, target in zip(part.tokens["patch"].numpy(), part.targets, strict=True):
            for r in range(8):
                for c in range(10):
                    q = x[r, c]
                    cosine = tokens @ q / np.linalg.norm(tokens, axis=1) / np.linalg.norm(q)
                    order = np.argsort(-cosine if distance == "cosine" else ((tokens - q) ** 2).sum(1), kind="stable")
                    winners = [np.bincount(v, minlength=7).argmax() for v in pixels[order[:3]].T]
                    cell = target["segmentation"][4 * r : 4 * r + 4, 4 * c : 4 * c + 4].ravel()
                    for true, won in zip(cell, winners, strict=True):
                        if true != 255:
                            truth[true] += 1
                            found[true] += won == true
    rows = task.measure(head, val, context(6))
    np.testing.assert_array_equal(rows.stats["tp"].sum(0), found)
    np.testing.assert_array_equal((rows.stats["tp"] + rows.stats["fn"]).sum(0), truth)


def test_ties_go_to_the_smallest_label():
    assert pixel_votes(np.array([[[2], [1], [2], [1]]]), 4).argmax(-1).tolist() == [[1]]


def test_memory_equal_to_query_copies_every_pixel():
    scenes = scenes_stream(4, "train", 0, noise=1.0)
    for part in scenes:
        for target in part.targets:
            target["segmentation"][target["segmentation"] == 255] = 0
    task = PixelKnnSegmentation(CapiKnnSettings(ks="1", distances="l2"))
    assert value(task.measure(task.fit(scenes, context(6)), scenes, context(6)), "mIoU") == 100


def test_k_and_distance_are_chosen_on_held_out_train_images():
    train, val = scenes_stream(24, "train", 0, noise=1.5), scenes_stream(6, "val", 1, noise=1.5)
    task = PixelKnnSegmentation(CapiKnnSettings())
    head = task.fit(train, context(6))
    assert len(head.miou) == 8
    assert head.miou[head.distance, head.k] == max(head.miou.values())
    flags = task.flags(head, task.measure(head, val, context(6)))
    assert flags["k"] == head.k > 1  # noisy tokens want more than one neighbour


def test_a_bounded_memory_keeps_as_many_tokens_of_every_image():
    task = PixelKnnSegmentation(CapiKnnSettings(ks="1", distances="cosine", memory_size=60))
    head = task.fit(scenes_stream(6, "train", 0), context(6))
    again = task.fit(scenes_stream(6, "train", 0, batch_size=2), context(6))
    assert len(head.memory) == 60
    assert np.array_equal(head.memory.pixels, again.memory.pixels)


def test_a_distance_that_is_not_known_is_said():
    with pytest.raises(UsageError, match="manhattan"):
        PixelKnnSegmentation(CapiKnnSettings(distances="manhattan")).fit(scenes_stream(2, "train", 0), context(6))
    with pytest.raises(UsageError, match="not a list of int"):
        PixelKnnSegmentation(CapiKnnSettings(ks="1,3")).fit(scenes_stream(2, "train", 0), context(6))


def test_euclidean_search_finds_the_nearest_even_far_from_the_origin():
    for away in (10, 3000):
        memory = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)) + away
        queries = torch.randn(50, 8, generator=torch.Generator().manual_seed(1)) + away
        found = CellMemory(memory, np.zeros((200, 1), np.uint8), "l2").nearest(queries, 1)[:, 0]
        np.testing.assert_array_equal(found, torch.cdist(queries.double(), memory.double()).argmin(1))


def test_whole_numbers_at_equal_distance_stay_ties_of_which_the_first_are_taken():
    memory = torch.tensor([[7.0, 5.0], [9.0, 5.0], [8.0, 4.0], [8.0, 6.0], [11.0, 5.0]])
    found = CellMemory(memory, np.zeros((5, 1), np.uint8), "l2").nearest(torch.tensor([[8.0, 5.0]]), 2)
    assert sorted(found[0].tolist()) == [0, 1]


def test_an_undeclared_class_of_the_test_images_cannot_be_told_from_void_under_compat():
    train, val = scenes_stream(6, "train", 0), scenes_stream(3, "val", 1)
    val.batches[0].targets[1]["segmentation"][:8, :8] = 11
    plain, compat = (PixelKnnSegmentation(CapiKnnSettings(ks="1", distances="l2", compat=c)) for c in (False, True))
    assert plain.measure(plain.fit(train, context()), val, context()).stats["tp"].shape[1] == 12
    with pytest.raises(DataError, match="'val-1' shows a class"):
        compat.measure(compat.fit(train, context()), val, context())


def test_the_scale_is_that_of_the_images_that_are_not_held_out():
    train = scenes_stream(12, "train", 1)
    held = holdout_keys(train.keys, 0.1)
    rest = ChannelScale.fit(train, "patch", frozenset(train.keys) - held)
    found = PixelKnnSegmentation(CapiKnnSettings()).fit(train, context(6)).scale
    assert torch.equal(found.scale, rest.scale)
    assert not torch.equal(found.scale, ChannelScale.fit(train, "patch").scale)
    alone = PixelKnnSegmentation(CapiKnnSettings(ks="3", distances="l2")).fit(train, context(6)).scale
    assert torch.equal(alone.scale, ChannelScale.fit(train, "patch").scale)  # nothing is chosen, so none is held out


def test_a_scale_of_no_image_is_said():
    with pytest.raises(DataError, match="empty"):
        ChannelScale.fit(scenes_stream(2, "train", 1), "patch", frozenset())
