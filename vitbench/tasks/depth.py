"""Linear depth in closed form: ridge regression of the mean log depth of a cell.

Log depth, because what is scored are ratios (d1, abs_rel, silog) and one output keeps a closed form; bins would need a softmax.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vitbench.catalogue.cards import TaskCard
from vitbench.catalogue.tasks.depth import DEPTH, RidgeDepthSettings
from vitbench.heads.ridge import RidgeFit
from vitbench.metrics.depth import eigen_crop, image_metrics
from vitbench.records.rows import Rows
from vitbench.tasks.base import Batch, Task, TaskContext, TokenStream
from vitbench.tasks.patch_labels import mean_log_depth
from vitbench.tasks.ridge_fit import fit_ridge_on
from vitbench.tasks.units import UnitRows
from vitbench.tasks.upsample import LabelSampler


@dataclass(frozen=True)
class DepthHead:
    """The ridge head and the range of train depths (log metres) to which predictions are clamped."""

    fit: RidgeFit
    log_range: tuple[float, float]


class Depth(Task[RidgeDepthSettings]):
    """Metrics per image at label resolution; an image without valid pixels counts in none of them."""

    card: ClassVar[TaskCard] = DEPTH

    def fit(self, train: TokenStream, context: TaskContext) -> DepthHead:
        low, high = self.settings.min_depth_m, self.settings.max_depth_m
        seen = [math.inf, -math.inf]

        def targets(batch: Batch) -> tuple[Tensor, Tensor]:
            geometry, values, shares = batch.tokens.geometry, [], []
            for i, target in enumerate(batch.targets):
                depth = np.asarray(target["depth"], np.float32)
                view = np.asarray(geometry.place_labels(i, depth, fill=0), np.float32)
                valid = view[(view > low) & (view < high)]
                if valid.size:
                    seen[:] = min(seen[0], float(valid.min())), max(seen[1], float(valid.max()))
                value, share = mean_log_depth(view, geometry.patch_px, low, high)
                values.append(value[..., None])
                shares.append(share)
            device = batch.tokens[self.settings.field].device
            return torch.from_numpy(np.stack(values)).to(device), torch.from_numpy(np.stack(shares)).to(device)

        fit = fit_ridge_on(train, self.settings, 1, targets)
        return DepthHead(fit, (math.log(seen[0]), math.log(seen[1])))

    def measure(self, head: DepthHead, test: TokenStream, context: TaskContext) -> Rows:
        low, high = self.settings.min_depth_m, self.settings.max_depth_m
        units = UnitRows()
        for batch in test:
            logs = head.fit.head(batch.tokens[self.settings.field])
            for i, key in enumerate(batch.tokens.keys):
                depth = np.asarray(batch.targets[i]["depth"], np.float32)
                valid = (depth > low) & (depth < high)
                if self.settings.crop == "eigen":
                    valid &= eigen_crop(*depth.shape)
                sampler = LabelSampler(batch.tokens.geometry, i, (depth.shape[0], depth.shape[1]), logs.device)
                predicted = sampler.values(logs[i])[0].clamp(*head.log_range).exp().cpu().numpy()
                shown = depth[sampler.rows, sampler.cols], valid[sampler.rows, sampler.cols]
                units.add(key, image_metrics(predicted, *shown))
        return units.rows()

    def flags(self, head: DepthHead, rows: Rows) -> Mapping[str, Any]:
        return {"lambda": head.fit.lam, "images_without_depth": int((rows.stats["n"] == 0).sum())}
