"""Many heads on one stream of augmented crops: what 31 more rates and decays add to one, forward included."""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.speed.figures import Figure, interleaved
from vitbench.backbones.lab import build_lab_vit
from vitbench.heads.bank import HeadBank, Recipe, Schedule
from vitbench.heads.pixel_loss import pixel_loss

HEADS = 32


def measure() -> list[Figure]:
    torch.manual_seed(0)
    lab = build_lab_vit().eval()
    base = timm.create_model("vit_base_patch14_dinov2", pretrained=False, num_classes=0, img_size=518).eval()
    return [
        *_heads("lab ViT, 4 crops of 192 px, 10 classes", lab, torch.randn(4, 3, 192, 192), 192, 10),
        *_heads("ViT-B/14, a crop of 518 px, 21 classes", base, torch.randn(1, 3, 518, 518), 512, 21),
        *_loss(),
    ]


def _heads(name: str, vit: torch.nn.Module, x: Tensor, side: int, classes: int) -> list[Figure]:
    labels = torch.randint(0, classes, (len(x), side, side))

    def tokens() -> Tensor:
        with torch.inference_mode():
            out: Tensor = vit.forward_features(x)[:, 1:]  # type: ignore[operator]
        cells = round(out.shape[1] ** 0.5)
        return out.unflatten(1, (cells, cells))

    def step(bank: HeadBank) -> None:
        bank.step(tokens(), 1, lambda z: pixel_loss(z, labels, 255))

    channels = tokens().shape[-1]
    one, many = (
        HeadBank(
            channels, classes, [Recipe(1e-3, 1e-4 * i) for i in range(n)], Schedule("poly", 10, 0.1), norm=True, seed=0,
            device=torch.device("cpu"),
        )
        for n in (1, HEADS)
    )  # fmt: skip
    alone, together = interleaved(lambda: step(one), lambda: step(many), times=3)
    return [Figure(f"{HEADS} heads on one stream, {name}", together / alone, "x one head", "<= 1.3")]


def _loss() -> list[Figure]:
    logits, labels = torch.randn(1, 150, 37, 37).requires_grad_(), torch.randint(0, 150, (1, 512, 512))

    def plain() -> None:
        F.cross_entropy(F.interpolate(logits, (512, 512), mode="bilinear"), labels).backward()

    ours, torchs = interleaved(lambda: pixel_loss(logits, labels, 255).backward(), plain, times=3)
    return [Figure("pixel loss, 150 classes, 512 px", torchs / ours, "x interpolate + cross_entropy", "> 1")]
