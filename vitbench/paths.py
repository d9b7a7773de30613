"""Where things live: shipped `benchmarks/` data, the cache, and the spelling of names in file names."""

from __future__ import annotations

import os
import re
from pathlib import Path

PACKAGE = Path(__file__).parent


def benchmarks_dir() -> Path:
    """The folder `benchmarks/`, from a checkout or from an installed wheel alike."""
    shipped = PACKAGE / "benchmarks"
    return shipped if shipped.is_dir() else PACKAGE.parent / "benchmarks"


def cache_dir() -> Path:
    """Default root of caches: `VITBENCH_CACHE` or the user's cache folder."""
    if override := os.environ.get("VITBENCH_CACHE"):
        return Path(override)
    import platformdirs

    return Path(platformdirs.user_cache_dir("vitbench"))


def file_name(name: str) -> str:
    """A name as part of a path: anything but letters, digits and `._@=+,-` becomes `_` (the identity keeps it unique)."""
    return re.sub(r"[^\w.@=+,-]+", "_", name).strip("_")[:120]
