"""A quick segmentation to look at: ridge regression of soft patch labels on a few train images, one class per cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vitbench.heads.moments import Moments
from vitbench.heads.ridge import LinearHead, fit_ridge, log_grid
from vitbench.inspection.fits import MemoryFitContext
from vitbench.tasks.patch_labels import soft_labels
from vitbench.tokens.types import Tokens

LAMBDAS = log_grid(-6, 1, 8)  # as linear_segmentation@ridge
HELD_OUT = 4  # every fourth image chooses lambda


@dataclass(frozen=True)
class Labelled:
    """Label maps (h w) of the train images, in their order, and what the classes are called."""

    maps: Sequence[npt.NDArray[Any]]
    classes: tuple[str, ...]
    ignore_index: int


def segmenter(context: MemoryFitContext, labelled: Labelled) -> LinearHead:
    """The head for tokens of the context's field, as the repairs before it leave them."""
    classes, i = len(labelled.classes), 0
    sums: list[Moments] = []
    for tokens in context.tokens():
        x = tokens[context.field]
        if not sums:
            shift = x.flatten(0, -2).mean(0)
            sums = [Moments.empty(shift, classes) for _ in range(2)]
        for k in range(len(tokens)):
            view = tokens.geometry.place_labels(k, np.asarray(labelled.maps[i], np.int32), fill=labelled.ignore_index)
            soft, share = soft_labels(
                np.asarray(view, np.int32), tokens.geometry.patch_px, classes, labelled.ignore_index
            )
            y, weight = torch.from_numpy(soft).to(x.device), torch.from_numpy(share).to(x.device)
            sums[i % HELD_OUT == 0].add(x[k].flatten(0, -2), y.flatten(0, -2), weight.flatten())
            i += 1
    return fit_ridge(sums[0], sums[1], LAMBDAS).head


def segmented(head: LinearHead, tokens: Tokens, field: str) -> npt.NDArray[np.uint8]:
    """The likeliest class of every cell of the first image: h w."""
    found: npt.NDArray[np.uint8] = head(tokens[field][0]).argmax(-1).to(torch.uint8).cpu().numpy()
    return found
