"""Made-up scenes as images, behind a frozen stand-in for a backbone: what streaming tasks train on in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from vitbench.backbones.base import Backbone, patch_pixels
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.fields import CLS_FIELDS, parse_field
from vitbench.tasks.base import TokenStream
from vitbench.tasks.live import Placed
from vitbench.tokens.geometry import Geometry
from vitbench.tokens.types import TokenRequest, Tokens
from vitbench.tokens.views import batch

from .streams import scene

T = TypeVar("T")
FIELDS = (
    "patch", "patch_raw", "cls", "cls_block_-1", *(f"{kind}_-{i}" for kind in ("cls_normed", "normed") for i in (2, 3, 4)),
    *(f"{kind}_q{i}" for kind in ("block", "cls_block") for i in (1, 2, 3)), "cls_block_q4",
)  # fmt: skip


class Colours(Backbone):
    """Features are the colours of a patch (and of its corners): batch-independent, exact, of use for made-up scenes."""

    def __init__(self, patch_px: int = 4) -> None:
        self.card = BackboneCard(
            "colours", "", "test", "module", patch_px, 1, 0, 15, 4, mean=(0.5,) * 3, std=(0.25,) * 3
        )  # type: ignore[arg-type]

    def _forward(
        self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Geometry
    ) -> dict[str, Tensor]:
        p = self.card.patch_px
        parts = patch_pixels(pixels, p).unflatten(-1, (p, p, 3))
        h = p // 2
        quarters = [parts[..., i : i + h, j : j + h, :].mean((-2, -3)) for i in (0, h) for j in (0, h)]
        patch = torch.cat([parts.mean((-2, -3)), *quarters], -1)
        cls = patch.mean((1, 2))
        return {name: cls if parse_field(name).kind in CLS_FIELDS else patch for name in request.fields}


class LiveScenes:
    """Scenes coloured by class (objects darker with depth), noise in grey levels added."""

    def __init__(
        self, targets: Mapping[str, Mapping[str, Any]], split: str, noise: float = 10.0, patch_px: int = 4
    ) -> None:
        self.split, self.patch_px = split, patch_px
        self._backbone = Colours(patch_px)
        palette = np.random.default_rng(5).integers(30, 226, (256, 3))
        self._samples: dict[str, dict[str, Any]] = {}
        self.kept: dict[str, Tensor] = {}
        self.seen: list[tuple[str, ...]] = []
        for i, (key, target) in enumerate(targets.items()):
            rng = np.random.default_rng([len(split), i])
            image = palette[target["segmentation"]] * (1 - 0.06 * target["depth"][..., None])
            image = np.clip(image + noise * rng.normal(size=image.shape), 0, 255).astype(np.uint8)
            self._samples[key] = {**target, "image": image}

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._samples)

    def __len__(self) -> int:
        return len(self._samples)

    def sample(self, key: str) -> Mapping[str, Any]:
        return self._samples[key]

    def prepared(
        self, asked: Iterable[tuple[Any, ...]], make: Callable[..., T], ahead: int = 0, light: bool = True
    ) -> Iterator[T]:
        return (make(self.sample(one[0]), *one) for one in asked)

    def tokens(self, placed: Sequence[Placed], keys: Sequence[str]) -> Tokens:
        self.seen.append(tuple(keys))
        pixels, geometry = batch(placed, self.patch_px)
        return self._backbone.forward(pixels, geometry, TokenRequest(FIELDS), keys)

    def resumed(self) -> Mapping[str, Tensor]:
        return self.kept

    def keep(self, state: Mapping[str, Tensor]) -> None:
        self.kept = dict(state)


def live_scenes(images: int, split: str, seed: int, noise: float = 10.0) -> LiveScenes:
    """That many made-up scenes of 32 x 40 pixels and six classes."""
    rngs = [np.random.default_rng([seed, len(split), i]) for i in range(images)]
    return LiveScenes({f"{split}-{i}": scene(rng, (32, 40), 6) for i, rng in enumerate(rngs)}, split, noise)


def as_live(stream: TokenStream, noise: float = 10.0) -> LiveScenes:
    """The scenes of a stream of tokens, as images."""
    targets = {k: t for part in stream for k, t in zip(part.tokens.keys, part.targets, strict=True)}
    return LiveScenes(targets, stream.split, noise)
