"""Views: how an image becomes network input. Plain data; `vitbench.tokens.views` applies them."""

from __future__ import annotations

import typing
from dataclasses import dataclass, replace
from typing import Literal

from vitbench.errors import UsageError

ViewKind = Literal["whole", "resize", "crop", "slide", "flip", "short", "davis", "long", "square", "centre"]
VIEW_KINDS = typing.get_args(ViewKind)
ONE_SIDE = ("short", "davis", "long")  # views that fix one side and keep the proportions
Resample = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    whole   native size, zero-padded (after normalisation) at bottom and right to a multiple of the patch
    resize  squashed to size_px x size_px, rounded down to a multiple of the patch
    crop    shorter side to resize_px (256/224 of size_px), then the centre size_px x size_px
    slide   windows of size_px every stride_px (2/3 of size_px), the last ones shifted inside; shorter side to size_px first
    flip    as resize, mirrored left to right
    short   shorter side to size_px, longer side in proportion, both rounded down to a multiple of the patch
    davis   as short, the longer side to a multiple of 64 where the patch divides it (DINO's video evaluation)
    long    longer side to size_px, shorter side in proportion, both rounded down to a multiple of the patch
    centre  shorter side to size_px, then the centre size_px x size_px (CLIP: nothing of that side is cut off)
    square  white added at bottom and right to make a square, that to size_px x size_px (probe3d's keypoints)

    std: what pixels are divided by instead of the backbone's own, where a published evaluation mistyped it. resample: bicubic
    with antialias (PIL), or bilinear without (OpenCV's). pad: `square` keeps its size and stands amid zeros that fill it up to a
    multiple of the patch, where it is none.
    """

    kind: ViewKind
    size_px: int = 0
    std: tuple[float, float, float] | None = None
    resample: Resample = "bicubic"
    pad: bool = False

    def __post_init__(self) -> None:
        if self.pad and self.kind != "square":
            raise UsageError(f"view {self.kind!r} cannot be padded all round", "use view=square")
        if self.kind != "whole" and self.size_px <= 0:
            raise UsageError(f"view {self.kind!r} needs a size in pixels")

    @staticmethod
    def parse(kind: str, size_px: int) -> View:
        if kind not in VIEW_KINDS:
            raise UsageError(f"unknown view {kind!r}", f"{', '.join(VIEW_KINDS[:-1])} or {VIEW_KINDS[-1]}")
        return View(kind, 0 if kind == "whole" else size_px)  # type: ignore[arg-type]

    def snapped(self, patch_px: int) -> View:
        """The view with its size rounded down to a multiple of the patch (hummingbird: 512 for patch 16, 504 for 14)."""
        if self.kind == "whole" or (self.pad and self.size_px % patch_px):
            return self
        return replace(self, pad=False, size_px=max(self.size_px // patch_px, 1) * patch_px)

    def simplest(self, image_hw: tuple[int, int] | None, patch_px: int) -> View:
        """`whole` where this view leaves images of that fixed size as they are, so that such passes are shared."""
        snapped = self.snapped(patch_px)
        if snapped.kind in ONE_SIDE and image_hw and self.sized_hw(image_hw, patch_px) == image_hw:
            return View("whole", std=self.std)
        if (
            not snapped.pad
            and snapped.kind in ("resize", "square", "centre")
            and image_hw == (snapped.size_px, snapped.size_px)
        ):
            return View("whole", std=self.std)
        return snapped

    def sized_hw(self, image_hw: tuple[int, int], patch_px: int) -> tuple[int, int]:
        """The size that `short`, `davis` and `long` give an image; square images stay square."""
        multiple = 64 if self.kind == "davis" and 64 % patch_px == 0 else patch_px
        shorter, longer = min(image_hw), max(image_hw)
        short_px = self.snapped(patch_px).size_px
        if self.kind == "long":
            long_px, short_px = short_px, max(short_px * shorter // longer // patch_px, 1) * patch_px
            return (short_px, long_px) if image_hw[0] <= image_hw[1] else (long_px, short_px)
        long_px = short_px if longer == shorter else max(short_px * longer // shorter // multiple, 1) * multiple
        return (short_px, long_px) if image_hw[0] <= image_hw[1] else (long_px, short_px)

    @property
    def resize_px(self) -> int:
        return round(self.size_px * 256 / 224)

    @property
    def stride_px(self) -> int:
        return self.size_px * 2 // 3

    def __str__(self) -> str:
        std = "~std" + ",".join(map(str, self.std)) if self.std else ""
        resample = "" if self.resample == "bicubic" else f"~{self.resample}"
        size = "" if self.kind == "whole" else str(self.size_px)
        return self.kind + size + std + resample + "~pad" * self.pad
