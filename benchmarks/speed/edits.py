"""Repairs that change the forward, against the unedited forward; sparse attention against the `entmax` package.

Taken on the architecture of DeiT-Tiny at 224 px with random weights, which do not matter to the clock.
"""

from __future__ import annotations

import time

import numpy as np
import timm
import torch

from benchmarks.speed.figures import Figure, interleaved
from vitbench.backbones.singular import defect_directions
from vitbench.backbones.sparse import entmax15, sparse_weights
from vitbench.backbones.vit import ViT, card_of
from vitbench.catalogue.cards import BackboneCard
from vitbench.repairs.compose import build_repair
from vitbench.tokens.types import TokenRequest

IMAGES, SIDE = 16, 224
EDITS = ("maskclip", "sclip", "clearclip", "naclip")
REGISTER_NEURONS = {"blocks": torch.tensor([5, 5, 6, 7, 8]), "neurons": torch.tensor([3, 40, 7, 100, 11])}
ROWS, KEYS = 9456, 197  # of attention, as many as the originals were timed on


def measure() -> list[Figure]:
    """Ratios of forwards, seconds of the singular directions, and rows of entmax."""
    torch.manual_seed(0)
    module = timm.create_model("deit_tiny_patch16_224", num_classes=0, dynamic_img_size=True).eval()
    plain = ViT(module, card_of(module, BackboneCard("deit_tiny", None, "speed", "module", 0, 0, 0, 0, 0)))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(IMAGES)]
    request, keys = TokenRequest(("patch",)), [str(i) for i in range(IMAGES)]
    figures = []
    for name in ("test_time_registers", *EDITS, "sparse_attention"):
        repair = build_repair(name)
        edited = repair.edit(plain, REGISTER_NEURONS if name == "test_time_registers" else {})
        before, after = interleaved(
            lambda: plain.tokens(images, request, keys), lambda e=edited: e.tokens(images, request, keys)
        )
        target = "" if name == "sparse_attention" else ">= 0.85"
        figures.append(Figure(f"forward {name}", before / after, "of the unedited forward", target))
    return [*figures, _directions(plain), _entmax()]


def _directions(view: ViT) -> Figure:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        defect_directions(view.blocks)
        seconds.append(time.perf_counter() - started)
    return Figure(
        "singular directions of a DeiT-Tiny", min(seconds), "s", "< 0.5 on 2 threads (sampled original: 17.8)"
    )


def _entmax() -> Figure:
    function, logits = entmax15(), torch.randn(ROWS, KEYS)
    package, ours = interleaved(lambda: function(logits, dim=-1), lambda: sparse_weights(function, logits))
    return Figure("sparse attention weights", package / ours, "of the entmax package", ">= 1.0")
