"""Linear depth by bins as DINOv2, DINOv3 and DVT train and test it (Oquab et al. 2023, arXiv 2304.07193)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from vitbench.heads.bank import HeadBank, Recipe, Schedule
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.ridge import LinearHead
from vitbench.metrics.depth import eigen_crop, garg_crop, image_metrics
from vitbench.records.rows import Rows
from vitbench.tasks.base import TaskContext
from vitbench.tasks.crops import DepthCrop, Scene, SceneViews
from vitbench.tasks.live import Inputs, Kept, LiveImages, StreamTask
from vitbench.tasks.slide_segmentation import ChosenHead, recipes
from vitbench.tasks.training import BankTrainer, Step, training_inputs
from vitbench.tasks.units import UnitRows
from vitbench.tokens.types import Tokens

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


class BinnedDepth(StreamTask[StreamDepthSettings, HeadBank, ChosenHead]):
    """A linear layer to bins on augmented crops; metrics per image at label resolution."""

    card: ClassVar[TaskCard] = DEPTH

    def training(self, train: LiveImages, context: TaskContext, start: int) -> Iterator[Inputs[Step]]:
        s, held = self.settings, self._held(train)
        make = DepthCrop(DepthAugment(s.crop_h, s.crop_w, s.border), train.patch_px)
        keys = [key for key in train.keys if key not in held]
        return training_inputs(train, keys, s, context.seed, start, make, s.bins)

    def trainer(self, context: TaskContext, kept: Kept) -> BankTrainer[HeadBank]:
        s, tried, beta1 = self.settings, self._tried(), several(self.settings.beta1, float)
        if len(beta1) > 2:
            raise UsageError(f"beta1={s.beta1}", "one value, or HIGH/LOW")
        cycle = (beta1[0], beta1[1]) if len(beta1) == 2 else None

        def build(x: Tensor, outputs: int) -> HeadBank:
            return HeadBank(
                x.shape[-1], outputs, tried, Schedule(s.schedule, s.iterations, s.warmup, s.final_rate, cycle), norm=s.norm,
                seed=context.seed, device=x.device, betas=(beta1[0], s.beta2), clip=s.clip,
            )  # fmt: skip

        return BankTrainer(kept, lambda tokens: tokens[s.field], build, lambda y, i: lambda z: self._loss(z, y, i))

    def _tried(self) -> list[Recipe]:
        return recipes(self.settings.learning_rate, self.settings.weight_decay)

    def _held(self, train: LiveImages) -> frozenset[str]:
        """Images that choose among heads."""
        return holdout_keys(train.keys, self.settings.holdout) if len(self._tried()) > 1 else frozenset()

    def choosing(self, train: LiveImages, context: TaskContext) -> Iterator[Inputs[Scene]]:
        return self._scenes(train, sorted(self._held(train)))

    def chooser(self, trained: HeadBank, context: TaskContext) -> _Chooser:
        return _Chooser(self, trained.heads(), self._tried())

    def testing(self, test: LiveImages, context: TaskContext) -> Iterator[Inputs[Scene]]:
        return self._scenes(test, test.keys)

    def scorer(self, head: ChosenHead, context: TaskContext) -> _Scorer:
        return _Scorer(self, head.head)

    def _scenes(self, live: LiveImages, keys: Sequence[str]) -> Iterator[Inputs[Scene]]:
        for batches, scene in live.prepared(((key,) for key in keys), SceneViews(self.settings.flip, live.patch_px)):
            yield Inputs(batches, scene)

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

    def predicted(self, head: LinearHead, x: Tensor, hw: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Depth in metres (h w of the label) from tokens b h w c of an image and, if asked for, its mirror image: their mean."""
        s = self.settings
        logits = head(x).permute(0, 3, 1, 2)
        depths = resized_depths(bin_depths(logits, self._bins(logits), s.upsample), hw)
        if s.flip:
            depths = torch.stack([depths[0], depths[1].flip(-1)])
        return np.asarray(depths.mean(0).clamp(s.min_depth_m, s.max_depth_m).cpu().numpy())

    def scored(self, head: LinearHead, x: Tensor, scene: Scene) -> dict[str, float]:
        """Metrics of one image, over the valid pixels of the crop."""
        s, depth = self.settings, scene.depth
        hw = depth.shape[0], depth.shape[1]
        valid: npt.NDArray[np.bool_] = (depth > s.min_depth_m) & (depth < s.max_depth_m)
        if s.crop != "none":
            valid &= (eigen_crop if s.crop == "eigen" else garg_crop)(*hw)
        return image_metrics(self.predicted(head, x, hw), depth, valid)

    def flags(self, head: ChosenHead, rows: Rows) -> Mapping[str, Any]:
        chosen = {"learning_rate": head.recipe.learning_rate, "weight_decay": head.recipe.weight_decay}
        return {**(chosen if head.miou else {}), "images_without_depth": int((rows.stats["n"] == 0).sum())}


class _Chooser:
    """The head with the best d1 over the images that choose; where there is one head, that one."""

    def __init__(self, task: BinnedDepth, heads: Sequence[LinearHead], tried: Sequence[Recipe]) -> None:
        self._task, self._heads, self._tried = task, heads, tried
        self._d1, self._n = [0.0] * len(heads), [0.0] * len(heads)

    def see(self, tokens: Sequence[Tokens], inputs: Inputs[Scene]) -> None:
        x = tokens[0][self._task.settings.field]
        for j, head in enumerate(self._heads):
            found = self._task.scored(head, x, inputs.about)
            self._d1[j] += found["d1"]
            self._n[j] += found["n"]

    def result(self) -> ChosenHead:
        if len(self._heads) == 1:
            return ChosenHead(self._heads[0], self._tried[0], {})
        scores = [d1 / max(n, 1) for d1, n in zip(self._d1, self._n, strict=True)]
        best = int(np.argmax(scores))
        return ChosenHead(self._heads[best], self._tried[best], dict(zip(self._tried, scores, strict=True)))


class _Scorer:
    """Rows of one head."""

    def __init__(self, task: BinnedDepth, head: LinearHead) -> None:
        self._task, self._head, self._units = task, head, UnitRows()

    def see(self, tokens: Sequence[Tokens], inputs: Inputs[Scene]) -> None:
        x = tokens[0][self._task.settings.field]
        self._units.add(inputs.about.key, self._task.scored(self._head, x, inputs.about))

    def result(self) -> Rows:
        return self._units.rows()
