"""Random changes of an image and its label map, as the linear segmentation recipes make them in every step.

mmsegmentation's pipeline (DINOv2, arXiv 2304.07193) and DINOv3's variant of it (arXiv 2508.10104). Everything is drawn from
the generator that is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitbench.tokens.bilinear import WHOLE, bilinear

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.integer]
_BRIGHTNESS, _CONTRAST, _SATURATION = 32, (0.5, 1.5), (0.5, 1.5)
_TRIES = 10  # times that a crop is drawn again; the last one is taken as it is


def resized(
    image: Pixels, hw: tuple[int, int], antialias: bool = False, rows: slice = WHOLE, columns: slice = WHOLE
) -> Pixels:
    """Bilinear with half-pixel centres: OpenCV's where it does not antialias, torchvision's where it does. uint8 h w 3.

    rows, columns: the part of the result that is asked for.
    """
    if image.shape[:2] == hw:
        return image[rows, columns]
    return _antialiased(image, hw)[rows, columns] if antialias else bilinear(image, hw, rows, columns)


def _antialiased(image: Pixels, hw: tuple[int, int]) -> Pixels:
    import torch  # here, because all else is done by processes that decode, which stay light

    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    out = torch.nn.functional.interpolate(x, hw, mode="bilinear", align_corners=False, antialias=True)
    return np.asarray(out[0].permute(1, 2, 0).round().clamp(0, 255).numpy(), np.uint8)


def nearest(
    labels: npt.NDArray[np.generic], hw: tuple[int, int], rows: slice = WHOLE, columns: slice = WHOLE
) -> npt.NDArray[np.generic]:
    """Nearest neighbour as OpenCV and torch have it: source index = floor(index x scale). h w, of which a part."""
    down = np.arange(hw[0])[rows] * labels.shape[0] // hw[0]
    across = np.arange(hw[1])[columns] * labels.shape[1] // hw[1]
    out: npt.NDArray[np.generic] = labels[down[:, None], across[None, :]]
    return out


def fitted_hw(hw: tuple[int, int], short_px: float, long_px: float | None) -> tuple[int, int]:
    """The size of an image scaled until its shorter side is `short_px` or its longer side `long_px`, whichever comes first."""
    factor = short_px / min(hw)
    if long_px is not None:
        factor = min(factor, long_px / max(hw))
    return max(int(hw[0] * factor + 0.5), 1), max(int(hw[1] * factor + 0.5), 1)


@dataclass(frozen=True)
class SegmentationAugment:
    """Random scale, crop, flip and colours. `long_px`: None leaves the longer side free.

    hue: largest turn as a share of the circle. A crop is drawn again (ten times at most) while one class has `cat_max_ratio`
    of its valid pixels or more.
    """

    short_px: int
    long_px: int | None
    crop_px: int
    ratio_low: float = 0.5
    ratio_high: float = 2.0
    cat_max_ratio: float = 0.75
    hue: float = 0.1
    antialias: bool = False
    ignore_index: int = 255

    def __call__(self, image: Pixels, labels: Labels, rng: np.random.Generator) -> tuple[Pixels, Labels]:
        """image uint8 h w 3 and its labels (scaled to it where they have another size) -> a crop of both, unpadded."""
        ratio = float(rng.uniform(self.ratio_low, self.ratio_high))
        long_px = None if self.long_px is None else int(self.long_px * ratio)
        hw = fitted_hw(image.shape[:2], int(self.short_px * ratio), long_px)
        rows, columns, cut = self._part(labels, hw, rng)
        image = resized(image, hw, self.antialias, rows, columns)
        if rng.random() < 0.5:
            image, cut = image[:, ::-1], cut[:, ::-1]
        return photometric(image, rng, self.hue), np.ascontiguousarray(cut)

    def _part(self, labels: Labels, hw: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice, Labels]:
        """Where the crop is in an image scaled to `hw`, and its labels."""
        room = max(hw[0] - self.crop_px, 0), max(hw[1] - self.crop_px, 0)
        for _ in range(_TRIES + 1):
            y, x = int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))
            rows, columns = slice(y, y + self.crop_px), slice(x, x + self.crop_px)
            cut = np.asarray(nearest(labels, hw, rows, columns), labels.dtype)
            counts = np.bincount(cut[cut != self.ignore_index])
            if np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio:
                break
        return rows, columns, cut


def photometric(image: Pixels, rng: np.random.Generator, hue: float) -> Pixels:
    """Brightness, contrast (before or after the rest), saturation and hue, each with probability 1/2."""
    image = _scaled(image, 1.0, float(rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)) if rng.random() < 0.5 else 0.0)
    contrast = float(rng.uniform(*_CONTRAST)) if rng.random() < 0.5 else 1.0
    first = rng.random() < 0.5
    saturation = float(rng.uniform(*_SATURATION)) if rng.random() < 0.5 else 1.0
    turn = float(rng.uniform(-hue, hue)) if rng.random() < 0.5 else 0.0
    if first:
        image = _scaled(image, contrast, 0.0)
    if saturation != 1.0 or turn:
        hsv = np.array(Image.fromarray(np.ascontiguousarray(image)).convert("HSV"))
        hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 255).astype(np.uint8)
        hsv[..., 0] = (hsv[..., 0].astype(np.int64) + round(turn * 256)) % 256
        image = np.array(Image.fromarray(hsv, "HSV").convert("RGB"))
    return np.ascontiguousarray(image if first else _scaled(image, contrast, 0.0))


def _scaled(image: Pixels, factor: float, offset: float) -> Pixels:
    if factor == 1.0 and offset == 0.0:
        return image
    return np.asarray(np.clip(image.astype(np.float32) * factor + offset, 0, 255), np.uint8)


Border = Literal["none", "nyu"]


def without_border(hw: tuple[int, int]) -> tuple[slice, slice]:
    """NYUv2's white border left out: rows 45:472 and columns 43:608 of 480x640, scaled to the image."""
    (a, b), (c, d) = (45 / 480, 472 / 480), (43 / 640, 608 / 640)
    return slice(round(a * hw[0]), round(b * hw[0])), slice(round(c * hw[1]), round(d * hw[1]))


@dataclass(frozen=True)
class DepthAugment:
    """Border crop, small rotation, flip, crop and colours of an image and its depth map (DINOv2's NYUv2 pipeline)."""

    crop_h: int
    crop_w: int
    border: Border = "nyu"
    degrees: float = 2.5
    gamma: tuple[float, float] = (0.9, 1.1)
    brightness: tuple[float, float] = (0.75, 1.25)
    colour: tuple[float, float] = (0.9, 1.1)

    def __call__(
        self, image: Pixels, depth: npt.NDArray[np.floating], rng: np.random.Generator
    ) -> tuple[Pixels, npt.NDArray[np.float32]]:
        """image uint8 h w 3 and its depth in metres (0: not valid; scaled to the image where it has another size)."""
        depth = np.asarray(nearest(depth, (image.shape[0], image.shape[1])), np.float32)
        if self.border == "nyu":
            cut = without_border((image.shape[0], image.shape[1]))
            image, depth = image[cut], depth[cut]
        if rng.random() < 0.5:
            image, depth = rotated(image, depth, float(rng.uniform(-self.degrees, self.degrees)))
        if rng.random() < 0.5:
            image, depth = image[:, ::-1], depth[:, ::-1]
        y = int(rng.integers(max(image.shape[0] - self.crop_h, 0) + 1))
        x = int(rng.integers(max(image.shape[1] - self.crop_w, 0) + 1))
        window = slice(y, y + self.crop_h), slice(x, x + self.crop_w)
        image, depth = image[window], depth[window]
        if rng.random() < 0.5:
            image = self._coloured(image, rng)
        return np.ascontiguousarray(image), np.ascontiguousarray(depth)

    def _coloured(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        values = (image.astype(np.float32) / 255) ** rng.uniform(*self.gamma)
        values = values * rng.uniform(*self.brightness) * rng.uniform(*self.colour, size=3)
        return np.asarray(np.rint(np.clip(values, 0, 1) * 255), np.uint8)


def rotated(image: Pixels, depth: npt.NDArray[np.float32], degrees: float) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """Turned about the centre at the same size: the image bilinearly, depth by nearest neighbour; corners are zero."""
    turned = Image.fromarray(np.ascontiguousarray(image)).rotate(degrees, Image.Resampling.BILINEAR)
    flat = Image.fromarray(np.ascontiguousarray(depth)).rotate(degrees, Image.Resampling.NEAREST)
    return np.array(turned), np.array(flat, np.float32)
