"""Extraction against a bare loop that calls the same model on the same ready tensors in the same dtype; memory at 1x and 4x.

`tokens from ready images` is what a forward costs with normalisation, hooks and checks; `whole pass to disk` adds making
batches, writing the shards, their checksums and fsync.
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.figures import Figure, interleaved
from vitbench.backbones.load import load_backbone
from vitbench.catalogue.views import View
from vitbench.tokens.extract import batch_size, run_pass
from vitbench.tokens.store import ShardWriter
from vitbench.tokens.types import TokenRequest
from vitbench.tokens.views import batch, normalise, place


def measure() -> list[Figure]:
    """Ratios for the fields of the lab suite (patch, key, norms, cls, pixels) on `lab_ssl`."""
    figures = []
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for dtype in (torch.bfloat16, torch.float32):
        backbone = load_backbone("lab_ssl", device=str(device), dtype=dtype)
        rng = np.random.default_rng(0)
        images = [rng.integers(0, 256, (192, 192, 3), dtype=np.uint8) for _ in range(96)]
        pixels, geometry = batch([p for i in images for p in place(i, View("whole"), 8)], 8)
        ready = normalise(pixels.to(device), geometry, backbone.card.mean, backbone.card.std, dtype)
        size = batch_size((192, 192), device.type)

        def bare(model: torch.nn.Module = backbone.module, x: torch.Tensor = ready, n: int = size) -> None:
            with torch.inference_mode():
                for i in range(0, len(x), n):
                    model.forward_features(x[i : i + n])
            if device.type == "cuda":
                torch.cuda.synchronize()

        with tempfile.TemporaryDirectory() as folder:
            request = TokenRequest(("patch", "key", "norms", "cls", "pixels"), View("whole"))
            samples = [(str(i), place(image, request.view, 8)) for i, image in enumerate(images)]

            def swept(backbone=backbone, request=request, samples=samples, folder=folder) -> None:  # type: ignore[no-untyped-def]
                run_pass(backbone, samples, request, [ShardWriter(Path(folder), "speed", request.fields)])

            def tokens(backbone=backbone, request=request, n=size, pixels=pixels, geometry=geometry) -> None:  # type: ignore[no-untyped-def]
                for i in range(0, len(pixels), n):
                    part = list(range(i, min(i + n, len(pixels))))
                    backbone.forward(pixels[part], geometry.select(part), request, [str(k) for k in part])

            bare(), tokens(), swept()
            seconds_bare, seconds_tokens = interleaved(bare, tokens)
            _, seconds_swept = interleaved(bare, swept)
        name = str(dtype).removeprefix("torch.")
        figures.append(
            Figure(f"tokens from ready images, {name}", seconds_bare / seconds_tokens, "of the bare loop", ">= 0.95")
        )
        figures.append(Figure(f"whole pass to disk, {name}", seconds_bare / seconds_swept, "of the bare loop", ""))
        figures.append(Figure(f"bare loop, {name}", len(images) / seconds_bare, "images/s", ""))
    return figures + _memory()


def _memory() -> list[Figure]:
    """Growth of the peak resident size from 200 to 800 images, in the same process."""
    backbone = load_backbone("lab_ssl", dtype=torch.bfloat16)
    rng = np.random.default_rng(0)

    def sweep(count: int) -> int:
        made = (rng.integers(0, 256, (192, 192, 3), dtype=np.uint8) for _ in range(count))
        samples = ((str(i), place(image, View("whole"), 8)) for i, image in enumerate(made))
        with tempfile.TemporaryDirectory() as folder:
            writer = ShardWriter(Path(folder), "memory", ("patch",), shard_bytes=1 << 24)
            run_pass(backbone, samples, TokenRequest(("patch",), View("whole")), [writer])
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    small, large = sweep(200), sweep(800)
    return [Figure("extraction, peak memory at 4 x the images", large / small, "of that at 1 x", "about 1")]
