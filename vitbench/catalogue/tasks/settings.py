"""Settings that explain themselves: each carries the sentence that the protocol's page prints."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

from vitbench.catalogue.cards import TaskSettings
from vitbench.errors import UsageError

T = TypeVar("T")

ROUNDED = "The longer side of a resized image is rounded to whole pixels, where torchvision cuts it down."
"""What the view `crop` differs in from the transforms of its sources."""

_SHARED = {
    "field": "token field that is read, or several joined by + (patch_raw, patch+cls, last4, quarters_raw, block_3, ...)",
    "view": "how the image becomes network input (whole, resize, crop, slide, flip, short, davis, long, square, centre)",
    "image_px": "size of the view in pixels, rounded down to a multiple of the patch (unused by `whole`)",
}


def setting(default: Any, text: str, *, later: bool = False) -> Any:
    """A dataclass field with its default and one phrase on what it does.

    later: added to a protocol that has records, with the default that keeps their numbers; at that default it is no part of
    the identity, so that those records stay what they are.
    """
    return dataclasses.field(default=default, metadata={"text": text, "later": later})


def identifying(settings: TaskSettings) -> dict[str, Any]:
    """The settings that tell a number from another one: all but later ones at their default."""
    return {
        f.name: getattr(settings, f.name)
        for f in dataclasses.fields(settings)
        if not (f.metadata.get("later") and getattr(settings, f.name) == f.default)
    }


def explained(settings: TaskSettings) -> list[tuple[str, Any, str]]:
    """(name, value, phrase) of every setting, in the order of declaration."""
    return [
        (f.name, getattr(settings, f.name), f.metadata.get("text") or _SHARED[f.name])
        for f in dataclasses.fields(settings)
    ]


@dataclass(frozen=True)
class RidgeSettings(TaskSettings):
    """What every ridge head shares: features are standardised, the intercept is free, one lambda serves all outputs."""

    holdout: float = setting(0.2, "share of train images, by key hash, on which lambda is chosen by squared error")
    lambda_low: int = setting(-6, "log10 of the smallest lambda (features have unit variance, the loss is a mean)")
    lambda_high: int = setting(1, "log10 of the largest lambda")
    lambda_steps: int = setting(8, "values on the logarithmic lambda grid")


@dataclass(frozen=True)
class OutlierSettings(TaskSettings):
    """Which tokens count as outliers: the norm rule shared by probes and diagnostics."""

    k_mad: float = setting(10.0, "an outlier has a norm above median + k_mad x MAD of the reference norms")
    block: int = setting(-1, "block after which norms are taken (negative counts from the end)")


def several(text: str, kind: type[T]) -> list[T]:
    """Values joined by `/` in a setting: `1/3/10` -> [1, 3, 10]. Raises UsageError for what is not of the kind."""
    try:
        return [kind(part) for part in text.split("/")]  # type: ignore[call-arg]
    except ValueError:
        raise UsageError(f"{text!r} is not a list of {kind.__name__}", "join values by /, as in 1/3/10") from None
