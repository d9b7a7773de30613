"""Nearest neighbours and votes against brute force and DINO's own evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from vitbench.heads.knn import Neighbours, attention_vote, exponential_vote, unit
from vitbench.metrics.classification import hits


def test_search_is_exact():
    generator = torch.Generator().manual_seed(0)
    memory, queries = (unit(torch.randn(n, 16, generator=generator)) for n in (700, 90))
    values, indices = Neighbours(memory).search(queries, 9)
    _, expected = (
        NearestNeighbors(n_neighbors=9, metric="cosine", algorithm="brute")
        .fit(memory.numpy())
        .kneighbors(queries.numpy())
    )
    assert np.array_equal(indices.numpy(), expected)
    torch.testing.assert_close(values, (queries @ memory.T).gather(1, indices))


def test_the_accelerator_path_finds_the_same():
    generator = torch.Generator().manual_seed(1)
    memory, queries = (unit(torch.randn(n, 8, generator=generator)) for n in (200, 50))
    flat = Neighbours(memory)
    product = Neighbours(memory)
    product._index = None
    assert torch.equal(flat.search(queries, 5)[1], product.search(queries, 5)[1])


def test_k_is_cut_to_the_memory():
    memory = unit(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    assert Neighbours(memory).search(memory, 20)[1].shape == (3, 3)


def test_memory_equal_to_query_finds_itself():
    x = unit(torch.randn(40, 12, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(Neighbours(x).search(x, 1)[1][:, 0], torch.arange(40))


@pytest.mark.parametrize("k", [10, 20])
def test_votes_equal_dino(shared: Path, k: int):
    golden = np.load(shared / "golden" / "dino_knn.npz")
    x = unit(torch.from_numpy(golden["cls_f16"].astype(np.float32)))
    labels = torch.from_numpy(golden["labels"].astype(np.int64))
    train, test = golden["train_index"], golden["test_index"]
    similarities, indices = Neighbours(x[train]).search(x[test], k)
    votes = exponential_vote(similarities, labels[train][indices], int(golden["num_classes"]), 0.07)
    np.testing.assert_allclose(votes, golden[f"k{k}_T0.07__votes"], rtol=1e-5, atol=1e-3)
    assert np.array_equal(votes.argmax(1), golden[f"k{k}_T0.07__pred"])
    found = [hits(own.numpy(), int(label)) for own, label in zip(votes, labels[test], strict=True)]
    top1, top5 = (100 * np.mean([f[name] for f in found]) for name in ("correct", "correct_top5"))
    assert (top1, top5) == pytest.approx(tuple(golden[f"k{k}_T0.07__top1_top5"]))


@settings(max_examples=60)
@given(
    st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 9), st.sampled_from([1, 3, 20, 200]),
    st.sampled_from([0.03, 0.07, 1.0, 10.0]), st.sampled_from(["any", "zeros", "far", "half"]),
)  # fmt: skip
def test_votes_equal_the_slow_restatement(
    seed: int, n: int, classes: int, k: int, temperature: float, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    x, q = rng.normal(size=(n, 6)) + 30 * (kind == "far"), rng.normal(size=(7, 6)) + 30 * (kind == "far")
    if kind == "zeros":
        q[::2] = 0
    x, q = (a.astype(np.float16 if kind == "half" else np.float32) for a in (x, q))
    labels = rng.integers(0, classes, n)
    similarities, indices = Neighbours(unit(torch.from_numpy(x))).search(unit(torch.from_numpy(q)), k)
    votes = exponential_vote(similarities, torch.from_numpy(labels)[indices], classes, temperature).numpy()
    memory = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    for query, own, near in zip(q.astype(np.float64), votes, indices.numpy(), strict=True):
        cosine = memory @ query / max(np.linalg.norm(query), 1e-12)
        assert np.sort(cosine)[::-1][: len(near)] == pytest.approx(cosine[near], abs=1e-6)
        expected = np.zeros(classes)
        for i in near:
            expected[labels[i]] += np.exp(cosine[i] / temperature)
        assert own == pytest.approx(expected, rel=2e-4)


def test_votes_at_very_low_temperatures_still_rank_by_the_nearest():
    similarities = torch.tensor([[0.99, 0.98, 0.98], [-0.9, -0.91, -0.92]])
    labels = torch.tensor([[2, 0, 0], [1, 0, 0]])
    for temperature in (0.01, 1e-3, 1e-6):
        votes = exponential_vote(similarities, labels, 3, temperature)
        assert bool(votes.isfinite().all())
        assert votes.argmax(1).tolist() == [2, 1]
    assert exponential_vote(similarities, labels, 3, 0.02)[0, 2] == pytest.approx(np.exp(0.99 / 0.02), rel=1e-4)


def test_attention_is_a_softmax_over_the_neighbours():
    similarities, labels = torch.tensor([[0.9, 0.5]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    expected = np.exp([0.9 / 0.1, 0.5 / 0.1])
    np.testing.assert_allclose(attention_vote(similarities, labels, 0.1)[0], expected / expected.sum(), rtol=1e-6)


def test_a_zero_vector_stays_finite():
    assert torch.equal(unit(torch.zeros(2, 3)), torch.zeros(2, 3))
