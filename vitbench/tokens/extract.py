"""One pass: placed images in, tokens to sinks. Batches are prepared while the model runs; sizes are bucketed, so they stay full."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import torch
from torch import Tensor

from vitbench.catalogue.cards import BackboneCard
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.placing import Pixels
from vitbench.tokens.store import Sink
from vitbench.tokens.types import TokenRequest, Tokens
from vitbench.tokens.views import batch

LOOKAHEAD_BATCHES = 4
PIXELS_PER_BATCH = 16 * 224 * 224  # a batch that stays in the caches of a CPU; a GPU takes 16 times that

Views = Sequence[tuple[Pixels, Placement]]  # of one image: mostly one, several for `slide`
Placed = tuple[str, Pixels, Placement]


class Model(Protocol):
    """What a pass needs of a backbone."""

    card: BackboneCard
    device: torch.device

    def forward(self, pixels: Tensor, geometry: Geometry, request: TokenRequest, keys: Sequence[str]) -> Tokens: ...


def batch_size(view_hw: tuple[int, int], device_type: str) -> int:
    """How many inputs of a size go into one forward."""
    pixels = PIXELS_PER_BATCH * (16 if device_type == "cuda" else 1)
    return max(pixels // (view_hw[0] * view_hw[1]), 1)


def run_pass(
    backbone: Model, samples: Iterable[tuple[str, Views]], request: TokenRequest, sinks: Sequence[Sink]
) -> dict[str, float]:
    """Sweep (key, views of the image) pairs through the backbone and into the sinks; commits them all, or aborts them all.

    The views are those that `place` gives for `request.view`. Returns cost: seconds, forward_seconds, forwards (images run
    through the model).
    """
    started, forward_seconds, count = time.perf_counter(), 0.0, 0
    try:
        for keys, pixels, geometry in _batches(samples, backbone):
            begin = time.perf_counter()
            tokens = backbone.forward(pixels, geometry, request, keys)
            forward_seconds += time.perf_counter() - begin
            count += len(keys)
            for sink in sinks:
                sink.write(tokens)
        cost = {
            "seconds": time.perf_counter() - started,
            "forward_seconds": forward_seconds,
            "forwards": float(count),
        }
        for sink in sinks:
            sink.commit(cost)
    except BaseException:
        for sink in sinks:
            sink.abort()
        raise
    return cost


def _batches(samples: Iterable[tuple[str, Views]], backbone: Model) -> Iterator[Any]:
    """Ready batches, prepared one ahead in a thread."""
    patch = backbone.card.patch_px
    groups = _grouped(samples, backbone.device.type)
    with ThreadPoolExecutor(1) as pool:

        def prepare() -> Any:
            group = next(groups, None)
            if group is None:
                return None
            pixels, geometry = batch([(p, place_) for _, p, place_ in group], patch)
            return [key for key, _, _ in group], pixels, geometry

        ahead: Future[Any] = pool.submit(prepare)
        while (ready := ahead.result()) is not None:
            ahead = pool.submit(prepare)
            yield ready


def _grouped(samples: Iterable[tuple[str, Views]], device_type: str) -> Iterator[list[Placed]]:
    """Lists of inputs of one size, each a full batch where the data allow; at most a few batches are held back."""
    buckets: dict[tuple[int, int], list[Placed]] = {}
    held = 0
    for key, views in samples:
        for i, (pixels, placement) in enumerate(views):
            name = key if len(views) == 1 else f"{key}#{i}"
            bucket = buckets.setdefault(placement.view_hw, [])
            bucket.append((name, pixels, placement))
            held += 1
            size = batch_size(placement.view_hw, device_type)
            if len(bucket) >= size:
                yield buckets.pop(placement.view_hw)
                held -= size
            elif held > LOOKAHEAD_BATCHES * size:
                largest = max(buckets, key=lambda hw: len(buckets[hw]))
                held -= len(buckets[largest])
                yield buckets.pop(largest)
    yield from (bucket for bucket in buckets.values() if bucket)
