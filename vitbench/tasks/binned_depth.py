"""Linear depth by bins as DINOv2, DINOv3 and DVT train and test it (Oquab et al. 2023, arXiv 2304.07193)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.depth import DEPTH
from vitbench.catalogue.tasks.settings import several
from vitbench.catalogue.tasks.streaming import StreamDepthSettings
from vitbench.data.augment import DepthAugment
from vitbench.errors import UsageError
from vitbench.heads.bank import HeadBank, Schedule
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.ridge import LinearHead
from vitbench.metrics.depth import eigen_crop, garg_crop, image_metrics
from vitbench.records.rows import Rows
from vitbench.tasks.base import Task, TaskContext
from vitbench.tasks.live import LiveImages, Sample, centred, train_bank
from vitbench.tasks.slide_segmentation import ChosenHead, recipes
from vitbench.tasks.units import UnitRows

_LEAST = 0.1  # added to every bin's logit after the ReLU
_EPSILON = 1e-3  # metres, inside the logarithm of the loss
_MEAN_WEIGHT = 0.15


def bin_depths(logits: Tensor, bins: Tensor, upsample: int) -> Tensor:
    """Logits b k h w -> mean bin of each (upsampled) cell, b h w: weights are relu(logit) + 0.1, normalised."""
    if upsample != 1:
        logits = torch.nn.functional.interpolate(logits, scale_factor=upsample, mode="bilinear", align_corners=False)
    weights = torch.relu(logits) + _LEAST
    return torch.einsum("bkhw,k->bhw", weights, bins) / weights.sum(1)


def resized_depths(depths: Tensor, hw: tuple[int, int]) -> Tensor:
    """b h w -> b H W, bilinear."""
    return torch.nn.functional.interpolate(depths[:, None], hw, mode="bilinear", align_corners=False)[:, 0]


def sig_loss(predicted: Tensor, depth: Tensor, valid: Tensor, mean_only: bool) -> Tensor:
    """sqrt(variance + 0.15 mean^2) of the error of log depth over the valid pixels; zero where there are fewer than two."""
    if int(valid.sum()) < 2:
        return predicted.sum() * 0
    error = torch.log(predicted[valid] + _EPSILON) - torch.log(depth[valid] + _EPSILON)
    mean_term = _MEAN_WEIGHT * error.mean() ** 2
    return torch.sqrt((mean_term if mean_only else error.var() + mean_term) + 1e-12)


class BinnedDepth(Task[StreamDepthSettings]):
    """A linear layer to bins on augmented crops; metrics per image at label resolution."""

    card: ClassVar[TaskCard] = DEPTH

    def fit(self, train: LiveImages, context: TaskContext) -> ChosenHead:  # type: ignore[override]  # see `Protocol.streams`
        s, tried = self.settings, recipes(self.settings.learning_rate, self.settings.weight_decay)
        held = holdout_keys(train.keys, s.holdout) if len(tried) > 1 else frozenset()
        augment = DepthAugment(s.crop_h, s.crop_w, s.border)

        def make(key: str, rng: np.random.Generator) -> Sample:
            sample = train.sample(key)
            crop, depth = augment(sample["image"], np.asarray(sample["depth"], np.float32), rng)
            return centred(crop, (crop.shape[0], crop.shape[1]), train.patch_px), depth

        def build(x: Tensor) -> HeadBank:
            beta1 = several(s.beta1, float)
            if len(beta1) > 2:
                raise UsageError(f"beta1={s.beta1}", "one value, or HIGH/LOW")
            cycle = (beta1[0], beta1[1]) if len(beta1) == 2 else None
            return HeadBank(
                x.shape[-1], s.bins, tried, Schedule(s.schedule, s.iterations, s.warmup, s.final_rate, cycle), norm=s.norm,
                seed=context.seed, device=x.device, betas=(beta1[0], s.beta2), clip=s.clip,
            )  # fmt: skip

        keys = [key for key in train.keys if key not in held]
        heads = train_bank(train, keys, s, context.seed, make, build, self._loss).heads()
        if len(heads) == 1:
            return ChosenHead(heads[0], tried[0], {})
        scores = [self._held_out(head, train, sorted(held)) for head in heads]
        best = int(np.argmax(scores))
        return ChosenHead(heads[best], tried[best], dict(zip(tried, scores, strict=True)))

    def _bins(self, like: Tensor) -> Tensor:
        s = self.settings
        return torch.linspace(s.min_depth_m, s.max_depth_m, s.bins, device=like.device)

    def _loss(self, logits: Tensor, depth: Tensor, iteration: int) -> Tensor:
        s = self.settings
        predicted = resized_depths(bin_depths(logits, self._bins(logits), s.upsample), (depth.shape[1], depth.shape[2]))
        valid = (depth > 0) & (depth <= s.max_depth_m)
        groups = range(0, len(depth), max(s.images_per_loss, 1))
        losses = [
            sig_loss(predicted[g], depth[g], valid[g], iteration < s.mean_only)
            for g in (slice(i, i + s.images_per_loss) for i in groups)
        ]
        return torch.stack(losses).mean()

    def _predicted(self, head: LinearHead, live: LiveImages, key: str, image: Any, hw: tuple[int, int]) -> Any:
        """Depth in metres of the label's pixels, averaged over the image and its mirror image, within the bins."""
        s = self.settings
        views = [image, np.ascontiguousarray(image[:, ::-1])] if s.flip else [image]
        size = image.shape[0], image.shape[1]
        tokens = live.tokens(
            [centred(v, size, live.patch_px) for v in views], [f"{key}#{i}" for i in range(len(views))]
        )
        logits = head(tokens[s.field]).permute(0, 3, 1, 2)
        depths = resized_depths(bin_depths(logits, self._bins(logits), s.upsample), hw)
        if s.flip:
            depths = torch.stack([depths[0], depths[1].flip(-1)])
        return depths.mean(0).clamp(s.min_depth_m, s.max_depth_m).cpu().numpy()

    def _scored(self, head: LinearHead, live: LiveImages, key: str) -> dict[str, float]:
        s, sample = self.settings, live.sample(key)
        depth = np.asarray(sample["depth"], np.float32)
        hw = depth.shape[0], depth.shape[1]
        valid: npt.NDArray[np.bool_] = (depth > s.min_depth_m) & (depth < s.max_depth_m)
        if s.crop != "none":
            valid &= (eigen_crop if s.crop == "eigen" else garg_crop)(*hw)
        return image_metrics(self._predicted(head, live, key, sample["image"], hw), depth, valid)

    def _held_out(self, head: LinearHead, train: LiveImages, keys: list[str]) -> float:
        found = [self._scored(head, train, key) for key in keys]
        return sum(f["d1"] for f in found) / max(sum(f["n"] for f in found), 1)

    def measure(self, head: ChosenHead, test: LiveImages, context: TaskContext) -> Rows:  # type: ignore[override]
        units = UnitRows()
        for key in test.keys:
            units.add(key, self._scored(head.head, test, key))
        return units.rows()

    def flags(self, head: ChosenHead, rows: Rows) -> Mapping[str, Any]:
        chosen = {"learning_rate": head.recipe.learning_rate, "weight_decay": head.recipe.weight_decay}
        return {**(chosen if head.miou else {}), "images_without_depth": int((rows.stats["n"] == 0).sum())}
