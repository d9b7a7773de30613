"""Exact nearest neighbours by inner product over a memory of tokens.

On CPU faiss's flat index: 1.5 core-seconds for 30,000 queries over 10,240 x 192, where a blocked matrix product with torch.topk
takes 2.0 (most of either is the product itself). On other devices the latter.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import torch
from torch import Tensor

from vitbench.errors import TokensError
from vitbench.tokens.checks import checked

_BLOCK = 1 << 26  # similarities held at once on an accelerator
_EXPONENT = 80.0  # the exponential of a larger number does not fit in float32


class Neighbours:
    """A memory of n vectors (n c) to be searched. For cosine, give unit vectors on both sides."""

    def __init__(self, memory: Tensor) -> None:
        """Raises TokensError for an empty memory, and for one that is not finite."""
        memory = self._memory = checked(memory, "n c", "vectors to search among")
        self._index = None
        if memory.device.type == "cpu":
            self._index = faiss.IndexFlatIP(memory.shape[1])
            self._index.add(memory.contiguous().numpy())

    def __len__(self) -> int:
        return len(self._memory)

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """queries q c -> (similarities q k, falling; indices q k, int64); k is cut to the size of the memory.

        Raises TokensError for queries of another width, and for such as are not finite.
        """
        queries, k = checked(queries, "q c", "vectors to search for"), min(k, len(self))
        if queries.shape[1] != self._memory.shape[1]:
            raise TokensError(
                f"vectors of {queries.shape[1]} channels are searched among vectors of {self._memory.shape[1]}",
                "read the same field of the same backbone",
            )
        if self._index is not None:
            faiss.omp_set_num_threads(torch.get_num_threads())
            values, indices = self._index.search(queries.contiguous().numpy(), k)
            return torch.from_numpy(values), torch.from_numpy(indices)
        step = max(_BLOCK // max(len(self), 1), 1)
        found = [(queries[i : i + step] @ self._memory.T).topk(k, dim=1) for i in range(0, len(queries), step)]
        return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def unit(x: Tensor) -> Tensor:
    """Vectors of length one over the last axis; zero vectors stay zero."""
    return torch.nn.functional.normalize(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x, dim=-1)


def attention_vote(similarities: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Mean of the neighbours' soft labels (q k m) under softmax(similarity / temperature) (q k) -> q m."""
    attention = torch.softmax(similarities / temperature, dim=-1)
    return torch.bmm(attention[:, None], labels)[:, 0]


def truncated_votes(
    similarities: Tensor, labels: Tensor, n_classes: int, temperature: float, ks: Sequence[int]
) -> dict[int, Tensor]:
    """Votes q m of the first k neighbours for each k, weighted by softmax(similarity / temperature) over all of them (DINOv2)."""
    weights = torch.softmax(similarities / temperature, dim=-1)
    zeros = weights.new_zeros(len(weights), n_classes)
    return {k: zeros.scatter_add(1, labels[:, :k], weights[:, :k]) for k in ks}


def exponential_vote(similarities: Tensor, labels: Tensor, n_classes: int, temperature: float) -> Tensor:
    """Sum over neighbours of exp(similarity / temperature) for their class: q k, q k int64 -> q m (DINO's k-NN).

    At temperatures so low that this leaves the range of the numbers, the votes of a query are those divided by its largest.
    """
    votes, exponents = similarities.new_zeros(len(similarities), n_classes), similarities / temperature
    largest = exponents.amax(1, keepdim=True)
    return votes.scatter_add_(1, labels, (exponents - torch.where(largest.abs() > _EXPONENT, largest, 0.0)).exp())
