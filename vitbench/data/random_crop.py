"""Random resized crops and flips, as image classifiers are trained (Szegedy et al. 2015, arXiv 1409.4842; torchvision's rules)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
_TRIES = 10


def random_resized_crop(
    image: Pixels, size_px: int, rng: np.random.Generator, area: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Pixels:  # fmt: skip
    """A part of the image (uint8 h w 3) of random area and aspect ratio, bicubic to a square, mirrored half the time."""
    y, x, h, w = _part(image.shape[0], image.shape[1], rng, area, ratio)
    cut = Image.fromarray(np.ascontiguousarray(image[y : y + h, x : x + w]))
    out = np.asarray(cut.resize((size_px, size_px), Image.Resampling.BICUBIC), np.uint8)
    return np.ascontiguousarray(out[:, ::-1]) if rng.random() < 0.5 else out


def _part(
    height: int, width: int, rng: np.random.Generator, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """y, x, h, w. Where ten draws do not fit: the largest part of the centre that has an allowed aspect ratio."""
    for _ in range(_TRIES):
        target = height * width * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w = min(width, max(round(height * ratio[1]), 1))
    h = min(height, max(round(width / ratio[0]), 1))
    return (height - h) // 2, (width - w) // 2, h, w
