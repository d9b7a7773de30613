"""Quick heads to look at: ridge regression of patch targets on a few train images, one class or depth per cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vitbench.heads.moments import Moments
from vitbench.heads.ridge import LinearHead, fit_ridge, log_grid
from vitbench.inspection.fits import MemoryFitContext
from vitbench.tasks.patch_labels import mean_log_depth, soft_labels
from vitbench.tokens.types import Tokens

LAMBDAS = log_grid(-6, 1, 8)  # as linear_segmentation@ridge
HELD_OUT = 4  # every fourth image chooses lambda
DEPTH_M = (1e-3, 1e3)  # what counts as a measured depth
KINDS = ("segmentation", "depth")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Targets:
    """Of the train images, in their order: label maps (h w) and depth maps (h w, metres), those that there are."""

    maps: Mapping[str, Sequence[npt.NDArray[Any]]]
    classes: tuple[str, ...] = ()
    ignore_index: int = 255


def quick_heads(context: MemoryFitContext, targets: Targets) -> dict[str, LinearHead]:
    """A head per kind of target, for tokens of the context's field as the repairs before it leave them."""
    made: dict[str, LinearHead] = {}
    if "segmentation" in targets.maps:
        classes, ignore = len(targets.classes), targets.ignore_index

        def labels(tokens: Tokens, k: int, i: int) -> tuple[Floats, Floats]:
            whole = np.asarray(targets.maps["segmentation"][i], np.int32)
            view = np.asarray(tokens.geometry.place_labels(k, whole, fill=ignore), np.int32)
            return soft_labels(view, tokens.geometry.patch_px, classes, ignore)

        made["segmentation"] = _fit(context, classes, labels)
    if "depth" in targets.maps:

        def depths(tokens: Tokens, k: int, i: int) -> tuple[Floats, Floats]:
            whole = np.asarray(targets.maps["depth"][i], np.float32)
            view = np.asarray(tokens.geometry.place_labels(k, whole, fill=0), np.float32)
            logs, share = mean_log_depth(view, tokens.geometry.patch_px, *DEPTH_M)
            return logs[..., None], share

        made["depth"] = _fit(context, 1, depths)
    return made


def _fit(
    context: MemoryFitContext, outputs: int, targets: Callable[[Tokens, int, int], tuple[Floats, Floats]]
) -> LinearHead:
    """`targets(tokens, k, i)`: values h w outputs and weights h w of sample k of a batch, image i of all."""
    sums: list[Moments] = []
    i = 0
    for tokens in context.tokens():
        x = tokens[context.field]
        if not sums:
            shift = x.flatten(0, -2).mean(0)
            sums = [Moments.empty(shift, outputs) for _ in range(2)]
        for k in range(len(tokens)):
            y, weight = (torch.from_numpy(a).to(x.device) for a in targets(tokens, k, i))
            sums[i % HELD_OUT == 0].add(x[k].flatten(0, -2), y.flatten(0, -2), weight.flatten())
            i += 1
    return fit_ridge(sums[0], sums[1], LAMBDAS).head


def classes_of(head: LinearHead, tokens: Tokens, field: str) -> npt.NDArray[np.uint8]:
    """The likeliest class of every cell of the first image: h w."""
    found: npt.NDArray[np.uint8] = head(tokens[field][0]).argmax(-1).to(torch.uint8).cpu().numpy()
    return found


def depth_of(head: LinearHead, tokens: Tokens, field: str) -> Floats:
    """Depth of every cell of the first image in metres: h w."""
    found: Floats = head(tokens[field][0])[..., 0].exp().float().cpu().numpy()
    return found
