"""From a backbone's name to a backbone that runs."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from vitbench.backbones.base import Backbone
from vitbench.catalogue.cards import BackboneCard
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

    `.tokens(images, request, keys)` takes images (uint8 h w 3) and a `vitbench.tokens.types.TokenRequest`, and gives its fields:
    grids b h w c. weights: files by backbone name. device, dtype: of the forward; pixels are normalised as the model wants
    them. A card's entry is called with (card, weights state): a Backbone subclass that takes those two, or a function that
    returns a Backbone. Raises UsageError (a name that means nothing, a card that is not true), UnavailableError (weights that
    are not here), WeightsError (weights that cannot be used).
    """
    card, state = describe_backbone(name, weights, offline)
    if state.status == "download":
        state = fetch_weights(card)
    if state.status == "unavailable":
        raise UnavailableError(state.reason, state.remedy)
    backbone = (resolve(card.entry) if isinstance(card.entry, str) else card.entry)(card, state)
    if not isinstance(backbone, Backbone):
        raise UsageError(f"the entry of backbone {name!r} gave a {type(backbone).__name__}, not a Backbone")
    _require_as_planned(card, backbone.card)
    return backbone.to(device, dtype)


def _require_as_planned(planned: BackboneCard, loaded: BackboneCard) -> None:
    """Raises UsageError where a card is not true of what its entry gives: what can be asked of it is planned by the card."""
    if not planned.depth:  # made from a bare timm id
        return
    for name in ("patch_px", "prefix_tokens", "registers", "embed_dim", "depth", "blocks"):
        said, found = getattr(planned, name), getattr(loaded, name)
        if said != found:
            raise UsageError(
                f"backbone {planned.name!r}: its card says {name}={said!r}, what its entry gives has {found!r}",
                "correct the card",
            )
