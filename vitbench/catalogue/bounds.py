"""What numbers in settings may be, by the names that protocols share: k of zero or a temperature of zero measure nothing."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from vitbench.errors import UsageError

AT_LEAST = {
    **dict.fromkeys(("image_px", "score_px", "crop_px", "stride_px", "short_px", "long_px", "crop_h", "crop_w"), 1),
    **dict.fromkeys(
        ("k", "top_k", "select_images", "blocks", "components", "restarts", "draws", "every", "every_px"), 1
    ),
    **dict.fromkeys(("c_steps", "lambda_steps", "max_iter", "iterations", "batch", "images_per_loss"), 1),
    **dict.fromkeys(("context", "radius", "memory_size", "shots", "n_per_class", "bias_steps", "epochs"), 0),
    "bins": 2,
}
ABOVE_ZERO = ("temperature", "tolerance", "max_depth_m")
SHARES = ("holdout", "mass")


def check_bounds(settings: Any) -> None:
    """Raises UsageError for a number of a settings dataclass that is out of its bounds or not finite."""
    for name in (f.name for f in dataclasses.fields(settings)):
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            raise UsageError(f"{name}={value} is not finite", "give a number")
        if name in AT_LEAST and value < AT_LEAST[name]:
            raise UsageError(f"{name}={value} is too small", f"it is at least {AT_LEAST[name]}")
        if name in ABOVE_ZERO and value <= 0:
            raise UsageError(f"{name}={value} is too small", "it is above zero")
        if name in SHARES and not 0 < value < 1:
            raise UsageError(f"{name}={value} is no share", "it lies between zero and one")
