"""The slice of train on which hyper-parameters are chosen: by key, so that it does not depend on order or batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from vitbench.errors import DataError


def holdout_keys(keys: Sequence[str], share: float) -> frozenset[str]:
    """The `share` of images (at least one, at most all but one) whose keys have the smallest sha256.

    Windows of one image (`key#0`, `key#1`) stay together. Raises DataError for fewer than two images.
    """
    images = sorted({key.partition("#")[0] for key in keys}, key=lambda k: hashlib.sha256(k.encode()).digest())
    if len(images) < 2:
        raise DataError(f"{len(images)} train images: one part is for fitting, one for choosing", "give at least two")
    count = min(max(round(share * len(images)), 1), len(images) - 1)
    chosen = set(images[:count])
    return frozenset(key for key in keys if key.partition("#")[0] in chosen)
