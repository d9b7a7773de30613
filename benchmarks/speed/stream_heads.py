"""Many heads on one stream of augmented crops: what 31 more (repairs that map tokens x rates) add to one, and the memory.

A step is everything that a step of `linear_segmentation@dinov2` does: decoded images are augmented in threads, crops go through
the backbone once, every repair maps the tokens, and every head is trained.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, TypeVar

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.figures import Figure, interleaved, run_command
from vitbench.backbones.base import Backbone
from vitbench.backbones.wrap import wrap
from vitbench.catalogue.cards import DatasetCard
from vitbench.catalogue.tasks.streaming import StreamSegmentationSettings
from vitbench.engine.decoders import by_threads
from vitbench.heads.pixel_loss import pixel_loss
from vitbench.repairs.compose import build_repair
from vitbench.tasks.base import TaskContext
from vitbench.tasks.live import Inputs
from vitbench.tasks.slide_segmentation import SlideSegmentation
from vitbench.tokens.types import TokenRequest, Tokens
from vitbench.tokens.views import batch

T = TypeVar("T")
RATES = "1e-5/1e-4/2e-4/5e-4/1e-3/2e-3/5e-3/1e-2"
REPAIRS = ("none", "center", "zscore", "unit")
CLASSES = 21
STEPS = 3


def measure() -> list[Figure]:
    torch.manual_seed(0)
    tiny = timm.create_model("deit_tiny_patch16_224", num_classes=0, img_size=192)
    small = timm.create_model("deit_small_patch16_224", num_classes=0, img_size=192)
    base = timm.create_model("vit_base_patch14_dinov2", pretrained=False, num_classes=0, img_size=518)
    return [
        _heads("DeiT-Tiny, 16 crops of 192 px", tiny, 192, 16),
        _heads("DeiT-Small, 16 crops of 192 px", small, 192, 16),
        _heads("ViT-B/14, 2 crops of 512 px", base, 512, 2),
        *_loss(),
        *_memory(),
    ]


class Pictures:
    """Images of 375 x 500 pixels in large patches of a few classes, as `LiveImages`."""

    split = "train"

    def __init__(self, patch_px: int, images: int = 32) -> None:
        self.patch_px = patch_px
        self.keys = tuple(f"im{i}" for i in range(images))
        rng = np.random.default_rng(0)
        self._samples = {}
        for key in self.keys:
            label = rng.integers(0, CLASSES, (5, 6)).repeat(75, 0).repeat(84, 1)[:, :500].astype(np.uint8)
            image = np.clip(label[..., None] * 10 + rng.integers(0, 40, (375, 500, 3)), 0, 255).astype(np.uint8)
            self._samples[key] = {"image": image, "segmentation": label}

    def __len__(self) -> int:
        return len(self.keys)

    def sample(self, key: str) -> Mapping[str, Any]:
        return self._samples[key]

    def prepared(
        self, asked: Iterable[tuple[Any, ...]], make: Callable[..., T], ahead: int = 0, light: bool = True,
    ) -> Iterator[T]:  # fmt: skip
        del light  # threads do all
        return by_threads(lambda one: make(self.sample(one[0]), *one), asked, ahead)


class Unkept:
    """Training from the start, nothing kept on the way."""

    def resumed(self) -> Mapping[str, Tensor]:
        return {}

    def keep(self, _state: Mapping[str, Tensor]) -> None:
        return None


class Heads:
    """Heads in training on a stream of their own: one per repair and rate."""

    def __init__(self, backbone: Backbone, repairs: Sequence[str], rates: str, side: int, crops: int) -> None:
        settings = StreamSegmentationSettings(
            learning_rate=rates,
            crop_px=side,
            short_px=side,
            long_px=4 * side,
            batch=crops,
            iterations=10_000,
            holdout=0.1,
        )
        task = SlideSegmentation(settings)
        card = DatasetCard("made_up", None, "", {}, (), tuple(map(str, range(CLASSES))))
        context, pictures = TaskContext(card, 0), Pictures(backbone.card.patch_px)
        self._backbone = backbone
        self._inputs: Iterator[Inputs[Any]] = task.training(pictures, context, 0)
        states = {"mean": torch.zeros(1), "sd": torch.ones(1)}
        self._maps = [(build_repair(name), {"patch": states}) for name in repairs]
        self._trainers = [task.trainer(context, Unkept()) for _ in repairs]

    def steps(self) -> None:
        for _ in range(STEPS):
            inputs = next(self._inputs)
            [(placed, keys)] = inputs.batches
            pixels, geometry = batch(placed, self._backbone.card.patch_px)
            tokens: Tokens = self._backbone.forward(pixels, geometry, TokenRequest(("patch",)), keys)
            for (repair, states), trainer in zip(self._maps, self._trainers, strict=True):
                trainer.see([repair.map(tokens, states)], inputs)


def _heads(name: str, vit: torch.nn.Module, side: int, crops: int) -> Figure:
    backbone = wrap(vit.eval())
    one, many = Heads(backbone, ("none",), "1e-3", side, crops), Heads(backbone, REPAIRS, RATES, side, crops)
    one.steps()
    many.steps()
    alone, together = interleaved(one.steps, many.steps, times=3)
    heads = len(list(product(REPAIRS, RATES.split("/"))))
    return Figure(
        f"{heads} heads (4 repairs x 8 rates) on one stream, {name}", together / alone, "x one head", "<= 1.3"
    )


def _loss() -> list[Figure]:
    logits, labels = torch.randn(1, 150, 37, 37).requires_grad_(), torch.randint(0, 150, (1, 512, 512))

    def plain() -> None:
        torch.autograd.grad(F.cross_entropy(F.interpolate(logits, (512, 512), mode="bilinear"), labels), logits)

    def ours() -> None:
        torch.autograd.grad(pixel_loss(logits, labels, 255), logits)

    mine, torchs = interleaved(ours, plain, times=3)
    return [Figure("pixel loss, 150 classes, 512 px", torchs / mine, "x interpolate + cross_entropy", "> 1")]


def _memory() -> list[Figure]:
    """Peak memory of the same number of steps on few and on four times as many images."""
    task = f"linear_segmentation@dinov2[iterations=10,batch=8,crop_px=192,stride_px=128,short_px=192,learning_rate={RATES}]"

    def peak(images: int) -> int:
        with tempfile.TemporaryDirectory() as folder:
            options = ["--records", f"{folder}/runs", "--cache", f"{folder}/cache", "--workers", "1"]
            cells = ["-b", "lab_ssl", "-r", ",".join(REPAIRS), "-t", task, "-d", "scenes", "--limit", str(images)]
            usage = run_command(["run", *cells, *options])
        if usage.code:
            raise SystemExit(usage.output)
        return usage.resident

    few, many = peak(40), peak(160)
    return [Figure("peak memory of a stream of 4 repairs x 8 rates, 160 images", many / few, "x 40 images", "about 1")]
