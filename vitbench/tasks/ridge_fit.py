"""One pass over train for a ridge head: sums of the part it is fitted on and of the slice that chooses lambda."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vitbench.catalogue.tasks.settings import RidgeSettings
from vitbench.errors import DataError
from vitbench.heads.holdout import holdout_keys
from vitbench.heads.moments import Moments
from vitbench.heads.ridge import RidgeFit, fit_ridge, log_grid
from vitbench.tasks.base import Batch, TokenStream

Targets = Callable[[Batch], tuple[Tensor, Tensor | None]]


def fit_ridge_on(
    train: TokenStream, settings: RidgeSettings, outputs: int, targets: Targets,
    also: Callable[[Batch], None] = lambda _: None,
) -> RidgeFit:  # fmt: skip
    """Fit tokens of `settings.field` (b h w c) to `targets(batch)`: values b h w k and weights b h w (None: all one).

    Tokens of weight zero are left out. `also` sees every batch, for what else must be collected in the same pass.
    """
    held = holdout_keys(train.keys, settings.holdout)
    sums: tuple[Moments, Moments] | None = None
    for batch in train:
        also(batch)
        x = batch.tokens[settings.field]
        y, weight = targets(batch)
        if sums is None:
            shift = x.flatten(0, -2).mean(0)
            sums = Moments.empty(shift, outputs), Moments.empty(shift, outputs)
        for part, member in zip(sums, (False, True), strict=True):
            chosen = [i for i, key in enumerate(batch.tokens.keys) if (key in held) is member]
            if not chosen:
                continue
            xs, ys = x[chosen].flatten(0, -2), y[chosen].flatten(0, -2)
            if weight is None:
                part.add(xs, ys)
                continue
            w = weight[chosen].flatten()
            if not bool((w > 0).all()):
                xs, ys, w = xs[w > 0], ys[w > 0], w[w > 0]
            part.add(xs, ys, w)
    if sums is None:
        raise DataError("the train split is empty", "check the data set and --limit")
    return fit_ridge(*sums, log_grid(settings.lambda_low, settings.lambda_high, settings.lambda_steps))
