"""Register neurons: MLP neurons that are active on tokens of outlying norm (Jiang et al. 2025, arXiv 2506.08010, Alg. 1).

Thresholds by rule: a token is an outlier if its norm after the detection block exceeds mean + 3 sd of the train patches;
neurons are taken up to the block after which half of these tokens are outliers of that block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from vitbench.backbones.edits import Edit, EditContext
from vitbench.backbones.vit import ViT
from vitbench.errors import NotApplicableError
from vitbench.repairs.base import FitContext
from vitbench.tokens.types import TokenRequest, Tokens

WIDTH = 3.0  # deviations above the mean
QUIET, QUIET_SHARE = 0.5, 0.5  # a sparse neuron is below QUIET on at least this share of an image's tokens


@dataclass(frozen=True)
class Outliers:
    """Tokens longer than `threshold` after block `detect`; `first` is the block after which most of them stand out."""

    detect: int
    threshold: float
    first: int
    count: int

    def hits(self, tokens: Tokens) -> Tensor:
        """b h w bool: the outliers of a batch that has `norms`."""
        norms = tokens["norms"][:, self.detect]
        return (norms > self.threshold) & torch.from_numpy(tokens.geometry.valid()).to(norms.device)


def find_outliers(context: FitContext, detect: int, threshold: float) -> Outliers:
    """Outliers of the train tokens after block `detect` (negative: from the end); `threshold` 0: mean + 3 sd.

    Raises NotApplicableError where there are none.
    """
    levels = _levels(context)
    if not -len(levels) <= detect < len(levels):
        raise NotApplicableError(f"block {detect} is none of the {len(levels)} blocks", "give detect=-1 or -2")
    detect %= len(levels)
    threshold = threshold or float(levels[detect])
    found = Outliers(detect, threshold, detect, 0)
    standing = torch.zeros(len(levels), dtype=torch.float64)
    count = 0
    for tokens in context.tokens():
        hit = found.hits(tokens)
        own = tokens["norms"].transpose(0, 1)[:, hit].cpu() > levels[:, None]
        standing += own.sum(1)
        count += int(hit.sum())
    if not count:
        raise NotApplicableError(
            f"no train token is longer than {threshold:.4g} after block {detect}, so there is nothing to move",
            "give a lower threshold or another detect, or leave the backbone as it is",
        )
    first = next((i for i in range(detect) if standing[i] >= count / 2), detect)
    return Outliers(detect, threshold, first, count)


def _levels(context: FitContext) -> Tensor:
    """Mean + 3 sd of the norms after every block (l), over train patches that show the image."""
    total: Tensor | int = 0
    squares: Tensor | int = 0
    count = 0
    for tokens in context.tokens():
        valid = torch.from_numpy(tokens.geometry.valid())
        norms = tokens["norms"].cpu().double().transpose(0, 1)[:, valid]
        total, squares, count = total + norms.sum(1), squares + norms.square().sum(1), count + norms.shape[1]
    if not isinstance(total, Tensor) or not isinstance(squares, Tensor) or not count:
        raise NotApplicableError("no train tokens to find outliers in", "give the data set train images")
    mean = total / count
    return mean + WIDTH * (squares / count - mean.square()).clamp(min=0).sqrt()


def neuron_scores(activations: Tensor, hit: Tensor, sparse: bool) -> Tensor:
    """One image: activations (T n) and outliers (T bool) -> mean absolute activation over the outliers (n).

    sparse: neurons that are not quiet on half of the tokens score zero.
    """
    scores = activations[hit].abs().mean(dim=0)
    if sparse:
        scores = scores * ((activations < QUIET).float().mean(dim=0) >= QUIET_SHARE)
    return scores


def ranked(scores: Sequence[Tensor], top_layer: int) -> list[tuple[int, int, float]]:
    """Scores of each block's neurons -> (block, neuron, score), best first, of blocks up to `top_layer` (inclusive)."""
    rows = [(i, n, s) for i, block in enumerate(scores[: top_layer + 1]) for n, s in enumerate(block.tolist())]
    return sorted(rows, key=lambda row: -row[2])


def score_neurons(
    view: ViT, context: FitContext, outliers: Outliers, images: int, sparse: bool, keep: int
) -> tuple[list[Tensor], list[Any]]:
    """Scores of all neurons (per block, n) over the train images that have outliers, and the first `keep` of those images."""
    watch = _Watch(sparse)
    kept: list[Any] = []
    for image, hit in _with_outliers(view, context, outliers, images):
        watch.hit = hit
        _run(view.edited(watch), image, TokenRequest(("norms",), context.view))
        if len(kept) < keep:
            kept.append(image)
    if not watch.count:
        raise NotApplicableError(
            f"none of the {images} train images read has an outlier", "raise images, or lower the threshold"
        )
    return [watch.scores[i] / watch.count for i in sorted(watch.scores)], kept


def count_outliers(view: ViT, context: FitContext, outliers: Outliers, images: Sequence[Any]) -> int:
    """How many tokens of the images are outliers under a view."""
    request = TokenRequest(("norms",), context.view)
    return sum(int(outliers.hits(_run(view, image, request)).sum()) for image in images)


def _with_outliers(view: ViT, context: FitContext, outliers: Outliers, images: int) -> Iterator[tuple[Any, Tensor]]:
    request = TokenRequest(("norms",), context.view)
    for image in islice(context.pixels(), images):
        hit = outliers.hits(_run(view, image, request))
        if bool(hit.any()):
            yield image, hit


def _run(view: ViT, image: Any, request: TokenRequest) -> Tokens:
    return view.tokens([image], request, ["fit"])


class _Watch(Edit):
    """Adds up scores of the neurons of all blocks on the images that run through; `hit` (b h w) are their outliers."""

    def __init__(self, sparse: bool) -> None:
        self.sparse = sparse
        self.hit = torch.zeros(0)
        self.scores: dict[int, Tensor] = {}
        self.count = 0

    def hidden(self, i: int, h: Tensor, context: EditContext) -> Tensor:
        for activations, hit in zip(h[:, context.patch_slice].float(), self.hit.flatten(1), strict=True):
            if bool(hit.any()):
                scores = neuron_scores(activations, hit, self.sparse).cpu()
                self.scores[i] = self.scores[i] + scores if i in self.scores else scores
                self.count += int(i == 0)
        return h
