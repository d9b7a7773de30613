"""The true boxes of an image that count: all of them, or, as in the earlier literature, without hard ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vitbench.errors import DataError


def true_boxes(target: Mapping[str, Any], no_hard: bool) -> npt.NDArray[np.float32]:
    """n 4, x0 y0 x1 y1 in pixels. Raises DataError where hard boxes are to be left out and the data set marks none."""
    boxes: npt.NDArray[np.float32] = np.asarray(target["boxes"], np.float32).reshape(-1, 4)
    if not no_hard:
        return boxes
    hard = target.get("boxes_hard")
    if hard is None:
        raise DataError("the data set does not mark which boxes are hard", "leave no_hard off")
    kept: npt.NDArray[np.float32] = boxes[~np.asarray(hard, bool)]
    return kept
