"""The three objectives of the lab's ViTs: supervised, masked images, and self-supervised on style pairs.

An objective is a module that holds its heads (and teacher), takes the student and a batch, and returns a loss. Only
`Supervised` reads segmentations.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod

import torch
import torch.nn.functional as F
from timm.models.eva import Eva, EvaBlock
from torch import Tensor, nn

from vitbench.backbones.lab import EMBED_DIM, PATCH_PX, encode
from vitbench.data.scenes import CLASSES, IGNORE_INDEX, OBJECT_CLASSES
from vitbench.lab.pool import Crops

HOG_BINS = 8
HOG_DIM = HOG_BINS * (16 + 9 + 9)


class Objective(nn.Module):
    """Base of the objectives."""

    @abstractmethod
    def loss(self, student: Eva, crops: Crops) -> Tensor:
        """Mean loss of a batch."""

    def after_step(self, student: Eva, progress: float) -> None:
        """Hook behind the optimiser's step; `progress` runs from 0 to 1."""


class Supervised(Objective):
    """Cross-entropy to the class shares of each patch, and to the largest object of the crop on CLS."""

    def __init__(self, student: Eva) -> None:
        super().__init__()
        self.prefix = student.num_prefix_tokens
        self.patch_head = nn.Linear(EMBED_DIM, len(CLASSES))
        self.image_head = nn.Linear(EMBED_DIM, len(OBJECT_CLASSES))

    def loss(self, student: Eva, crops: Crops) -> Tensor:
        tokens = encode(student, crops.first)
        shares = patch_shares(crops.segmentation).flatten(1, 2)
        known = shares.sum(-1) > 0
        dense = F.cross_entropy(self.patch_head(tokens[:, self.prefix :])[known].float(), shares[known])
        areas = shares[..., : len(OBJECT_CLASSES)].sum(1)
        has_object = areas.amax(-1) > 2.0
        image = F.cross_entropy(self.image_head(tokens[:, 0])[has_object].float(), areas[has_object].argmax(-1))
        return dense + 0.2 * image


def patch_shares(segmentation: Tensor) -> Tensor:
    """b h w class indices -> b h/8 w/8 classes, shares of the labelled pixels; all 0 where none is labelled."""
    known = segmentation != IGNORE_INDEX
    one_hot = F.one_hot(segmentation.where(known, torch.zeros_like(segmentation)), len(CLASSES)) * known[..., None]
    shares = F.avg_pool2d(one_hot.permute(0, 3, 1, 2).float(), PATCH_PX).permute(0, 2, 3, 1)
    return shares / shares.sum(-1, keepdim=True).clamp_min(1e-6)


class MaskedImages(Objective):
    """Masked autoencoder (He et al. 2022, arXiv 2111.06377): 75 % masked, normalised pixels of the masked patches."""

    def __init__(self, student: Eva, dim: int = 128, depth: int = 2) -> None:
        super().__init__()
        self.prefix = student.num_prefix_tokens
        self.embed = nn.Linear(EMBED_DIM, dim)
        self.mask_token = nn.Parameter(torch.randn(dim) * 0.02)
        self.blocks = nn.ModuleList(
            EvaBlock(dim, dim // 64, mlp_ratio=4.0, swiglu_mlp=False, num_prefix_tokens=self.prefix)
            for _ in range(depth)
        )
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 3 * PATCH_PX**2))

    def loss(self, student: Eva, crops: Crops) -> Tensor:
        grid = crops.first.shape[-1] // PATCH_PX
        order = torch.rand(len(crops.first), grid * grid).argsort(1)
        keep = order[:, : round(0.25 * grid * grid)]
        tokens = self.embed(encode(student, crops.first, keep))
        prefix, seen = tokens[:, : self.prefix], tokens[:, self.prefix :]
        full = self.mask_token.to(seen.dtype).expand(len(seen), grid * grid, -1)
        full = full.scatter(1, keep[..., None].expand_as(seen), seen)
        tokens = torch.cat((prefix, full), 1)
        rope = student.rope.get_embed(shape=(grid, grid))
        for block in self.blocks:
            tokens = block(tokens, rope=rope)
        predicted = self.head(tokens[:, self.prefix :]).float()
        target = F.unfold(crops.first, PATCH_PX, stride=PATCH_PX).transpose(1, 2)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-4).sqrt()
        error = (predicted - target).square().mean(-1)
        masked: Tensor = error.scatter(1, keep, 0.0).sum() / (error.numel() - keep.numel())
        return masked


class StylePairs(Objective):
    """Self-supervision by style pairs: no label is read, but the generator's second style is.

    The student sees one style with half of its patches dropped. Its patch tokens predict (1) colour-free HOG
    features of the *other* style at three window sizes and (2) which of 1,024 teacher tokens of the other style lies
    at their place (InfoNCE, T 0.2); (3) its CLS predicts which teacher CLS of the batch shows the same scene. The
    teacher is a moving average of the student and sees the whole crop. HOG as a target: Wei et al. 2022 (MaskFeat,
    arXiv 2112.09133).
    """

    def __init__(self, student: Eva) -> None:
        super().__init__()
        self.prefix = student.num_prefix_tokens
        self.hog_head = nn.Sequential(nn.Linear(EMBED_DIM, 512), nn.GELU(), nn.Linear(512, HOG_DIM))
        self.patch_head, self.image_head = _projector(), _projector()
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.teacher_patch_head = copy.deepcopy(self.patch_head).requires_grad_(False)
        self.teacher_image_head = copy.deepcopy(self.image_head).requires_grad_(False)
        self.hog_mean = nn.Buffer(torch.zeros(HOG_DIM))
        self.hog_std = nn.Buffer(torch.zeros(HOG_DIM))

    def loss(self, student: Eva, crops: Crops) -> Tensor:
        grid = crops.first.shape[-1] // PATCH_PX
        batch = len(crops.first)
        keep = torch.rand(batch, grid * grid).argsort(1)[:, : round(0.5 * grid * grid)]
        tokens = encode(student, crops.first, keep)
        patches = tokens[:, self.prefix :]
        with torch.no_grad():
            seen = self.teacher.forward_features(crops.second)
            hog = self._standardise(hog_features(crops.second).flatten(1, 2))
        there = keep[..., None].expand(-1, -1, HOG_DIM)
        regression = F.mse_loss(self.hog_head(patches).float(), hog.gather(1, there))
        pairs = max(1, 1024 // batch)  # kept patches are in random order: the first ones are a random choice
        there = keep[:, :pairs, None].expand(-1, -1, EMBED_DIM)
        target = seen[:, self.prefix :].gather(1, there).flatten(0, 1)
        dense = info_nce(self.patch_head(patches[:, :pairs].flatten(0, 1)), self.teacher_patch_head(target))
        image = info_nce(self.image_head(tokens[:, 0]), self.teacher_image_head(seen[:, 0]))
        return regression + 0.3 * dense + 0.1 * image

    def after_step(self, student: Eva, progress: float) -> None:
        momentum = 0.997 - 0.047 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, 2 * progress)))
        online = (student, self.patch_head, self.image_head)
        slow = (self.teacher, self.teacher_patch_head, self.teacher_image_head)
        with torch.no_grad():
            for fast_module, slow_module in zip(online, slow, strict=True):
                for fast, average in zip(fast_module.parameters(), slow_module.parameters(), strict=True):
                    average.lerp_(fast, 1.0 - momentum)

    def _standardise(self, hog: Tensor) -> Tensor:
        """By the mean and deviation of the first batch."""
        if float(self.hog_std.sum()) == 0.0:
            self.hog_mean.copy_(hog.mean((0, 1)))
            self.hog_std.copy_(hog.std((0, 1)) + 1e-3)
        return (hog - self.hog_mean) / self.hog_std


def _projector() -> nn.Sequential:
    """Batch norm in the hidden layer only: at the end it makes the contrastive task trivial."""
    return nn.Sequential(nn.Linear(EMBED_DIM, 384), nn.BatchNorm1d(384), nn.GELU(), nn.Linear(384, 96))


def info_nce(online: Tensor, target: Tensor, temperature: float = 0.2) -> Tensor:
    """Cross-entropy of picking the target of the same row (n c, n c)."""
    logits = F.normalize(online.float(), dim=-1) @ F.normalize(target.float(), dim=-1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(logits)))


def hog_features(images: Tensor) -> Tensor:
    """Unsigned histograms of oriented gradients around each patch: b 3 h w -> b h/8 w/8 HOG_DIM.

    Cells of 4 px around the patch (16 px), and histograms of 3 x 3 patches (24 px) and of 3 x 3 neighbourhoods of 3
    patches (56 px). At each pixel the colour channel with the largest gradient counts.
    """
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    dx = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    dy = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    power = dx.square() + dy.square()
    strongest = power.argmax(1, keepdim=True)
    dx, dy = dx.gather(1, strongest), dy.gather(1, strongest)
    angle = torch.atan2(dy, dx) * (HOG_BINS / math.pi)  # two bins apart by 1; period HOG_BINS
    bins = torch.arange(HOG_BINS).view(1, -1, 1, 1)
    apart = (angle - bins).remainder(HOG_BINS)
    weight = (1.0 - torch.minimum(apart, HOG_BINS - apart)).clamp_min(0.0)
    cells = F.avg_pool2d(weight * power.gather(1, strongest).sqrt(), 4)
    energy = F.avg_pool2d(cells.square().sum(1, keepdim=True), 7, 1, 3, count_include_pad=False)
    cells = (cells / (energy + 1e-3).sqrt()).clamp_max(2.0)
    patches = F.avg_pool2d(cells, 2)
    wide = F.avg_pool2d(patches, 3, 1, 1, count_include_pad=False)
    side = patches.shape[-1]
    parts = (
        F.unfold(cells, 4, padding=1, stride=2),
        F.unfold(patches, 3, padding=1),
        F.unfold(wide, 3, padding=2, dilation=2),
    )
    return torch.cat(parts, 1).transpose(1, 2).reshape(len(images), side, side, HOG_DIM)
