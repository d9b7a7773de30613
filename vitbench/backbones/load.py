"""From a backbone's name to a backbone that runs."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from vitbench.backbones.base import Backbone
from vitbench.catalogue.weights import describe_backbone, fetch_weights
from vitbench.errors import UnavailableError, UsageError
from vitbench.registry import resolve


def load_backbone(
    name: str,
    *,
    weights: Mapping[str, str] | None = None,
    offline: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Backbone:
    """A frozen backbone by name (without defects), downloading its weights where that is needed and allowed.

    weights: files by backbone name. A card's entry is called with (card, weights state): a Backbone subclass that takes
    those two, or a function that returns a Backbone. Raises UsageError (a name that means nothing), UnavailableError
    (weights that are not here), WeightsError (weights that cannot be used).
    """
    card, state = describe_backbone(name, weights, offline)
    if state.status == "download":
        state = fetch_weights(card)
    if state.status == "unavailable":
        raise UnavailableError(state.reason, state.remedy)
    backbone = (resolve(card.entry) if isinstance(card.entry, str) else card.entry)(card, state)
    if not isinstance(backbone, Backbone):
        raise UsageError(f"the entry of backbone {name!r} gave a {type(backbone).__name__}, not a Backbone")
    return backbone.to(device, dtype)
