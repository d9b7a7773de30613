"""Heads trained together are those trained alone by torch's SGD; they may be kept and restored."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from vitbench.heads.knn import truncated_votes
from vitbench.heads.sgd_bank import Part, SgdBank

PARTS = (Part("last", 4, 8), Part("all", 0, 8))
RATES, STEPS = (0.1, 0.7), 12


def _batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(3)
    return [(torch.randn(6, 8, generator=g), torch.randint(0, 3, (6,), generator=g)) for _ in range(STEPS)]


def _train(bank: SgdBank, start: int = 0, stop: int = STEPS) -> None:
    for i, (x, y) in list(enumerate(_batches()))[start:stop]:
        bank.step(x, i, lambda z, y=y: len(z) * F.cross_entropy(z.flatten(0, 1), y.repeat(len(z))))


def _bank() -> SgdBank:
    return SgdBank(PARTS, 3, RATES, STEPS, seed=5, device=torch.device("cpu"), weight_decay=0.01)


def test_each_head_is_what_torchs_sgd_gives_alone() -> None:
    bank = _bank()
    first = {id_: head for id_, (_, _, head) in enumerate(bank.heads())}
    starts = {i: (h.weight.clone(), h.bias.clone()) for i, h in first.items()}
    _train(bank)
    for i, (part, rate, head) in enumerate(bank.heads()):
        weight, bias = (t.clone().requires_grad_() for t in starts[i])
        optimiser = torch.optim.SGD([weight, bias], lr=rate, momentum=0.9, weight_decay=0.01)
        for step, (x, y) in enumerate(_batches()):
            optimiser.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / STEPS))
            optimiser.zero_grad()
            F.cross_entropy(x[:, part.start : part.stop] @ weight + bias, y).backward()
            optimiser.step()
        torch.testing.assert_close(head.weight, weight.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(head.bias, bias.detach(), rtol=1e-4, atol=1e-5)


def test_a_restored_bank_goes_on_where_it_was() -> None:
    whole, half, other = _bank(), _bank(), _bank()
    _train(whole)
    _train(half, stop=5)
    other.restore(half.state())
    _train(other, start=5)
    for (_, _, a), (_, _, b) in zip(whole.heads(), other.heads(), strict=True):
        assert torch.equal(a.weight, b.weight)


def test_votes_of_the_first_k_are_shares_of_all_weights() -> None:
    similarities, labels = torch.tensor([[0.9, 0.8, 0.1]]), torch.tensor([[1, 0, 0]])
    weights = (similarities / 0.07).softmax(1)[0]
    votes = truncated_votes(similarities, labels, 2, 0.07, [1, 3])
    torch.testing.assert_close(votes[1], torch.tensor([[0.0, float(weights[0])]]))
    torch.testing.assert_close(votes[3], torch.stack([weights[1] + weights[2], weights[0]])[None])
