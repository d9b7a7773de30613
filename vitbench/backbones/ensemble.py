"""A backbone that looks at several views of an image and averages what it sees of each patch.

Only grid fields with channels are averaged: CLS, registers, norms, attention maps, the patch projection and flags are those
of the image as it is, for they describe one forward.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue.ensembles import AVERAGED
from vitbench.catalogue.fields import acts_on
from vitbench.tokens.extract import batch_size
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.types import TokenRequest


class ImageView(ABC):
    """Another look at the same image, on a grid of the same size."""

    @abstractmethod
    def look(self, pixels: Tensor) -> Tensor:
        """Normalised pixels b 3 H W -> the view's, b 3 H W."""

    @abstractmethod
    def back(self, x: Tensor) -> Tensor:
        """A field b h w c of the view -> its part in the sum over views (float32), on the grid of the image."""

    @abstractmethod
    def weight(self, grid_hw: tuple[int, int]) -> Tensor:
        """Its part in the sum of weights, h w: zero where the view does not see a patch."""


# Views beside the image itself, for a grid of h w patches.
Views = Callable[[tuple[int, int]], Sequence[ImageView]]


class Ensemble(Backbone):
    """A backbone (edited or defective ones too) whose grid fields are weighted means over the image and other views of it.

    `own` is the weight of the image itself. Views run one after another, several at once where images are few, so memory
    stays that of one batch.
    """

    def __init__(self, inner: Backbone, views: Views, own: float = 1.0) -> None:
        self.inner, self.views, self.own = inner, views, own
        self.card, self.module, self.digest = inner.card, inner.module, inner.digest
        self.device, self.dtype = inner.device, inner.dtype

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Ensemble:
        self.inner.to(device, dtype)
        self.device, self.dtype = self.inner.device, self.inner.dtype
        return self

    def _forward(
        self, pixels: Tensor, request: TokenRequest, keys: Sequence[str], geometry: Geometry
    ) -> dict[str, Tensor]:
        fields = self.inner._forward(pixels, request, keys, geometry)
        names = tuple(name for name in request.fields if acts_on(AVERAGED, name))
        views = self.views(geometry.grid_hw) if names else ()
        if not views:
            return fields
        totals = {name: fields[name].float() * self.own for name in names}
        weight = torch.full(geometry.grid_hw, self.own)
        # What stands in a view is its image: there, padding cannot be told from what was moved.
        whole = tuple(Placement(p.source_hw, p.view_hw, p.view_hw) for p in geometry.placements)
        n, size = len(pixels), (pixels.shape[2], pixels.shape[3])
        at_once = max(batch_size(size, pixels.device.type) // n, 1)
        for start in range(0, len(views), at_once):
            group = views[start : start + at_once]
            seen = replace(geometry, placements=whole * len(group))
            looks = torch.cat([view.look(pixels) for view in group])
            others = self.inner._forward(looks, replace(request, fields=names), [*keys] * len(group), seen)
            for i, view in enumerate(group):
                for name in names:
                    totals[name] += view.back(others[name][i * n : (i + 1) * n])
                weight += view.weight(geometry.grid_hw)
        divisor = weight.to(pixels.device).unsqueeze(-1)
        return {**fields, **{name: total / divisor for name, total in totals.items()}}


def moved(x: Tensor, offset: tuple[int, int], dims: tuple[int, int], fill: Tensor | float = 0.0) -> Tensor:
    """y[r, c] = x[r + dy, c + dx] along two axes: a positive offset moves content up and left; `fill` where nothing was.

    fill: a number, or a tensor that broadcasts to x.
    """
    y = torch.as_tensor(fill, dtype=x.dtype, device=x.device).expand_as(x).clone()
    source, target = [slice(None)] * x.ndim, [slice(None)] * x.ndim
    for dim, d in zip(dims, offset, strict=True):
        n = x.shape[dim]
        if abs(d) >= n:
            return y
        source[dim], target[dim] = slice(max(d, 0), n + min(d, 0)), slice(max(-d, 0), n - max(d, 0))
    y[tuple(target)] = x[tuple(source)]
    return y
