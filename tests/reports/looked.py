"""A made-up inspection: two images, a backbone as it is, a map, an edit and a twin with registers."""

from __future__ import annotations

import numpy as np

from vitbench.inspection.looks import Inspection, Look, Picture, Row


def inspection(name: str = "lab_ssl", repair: str = "center") -> Inspection:
    rng = np.random.default_rng(0)
    pictures = tuple(
        Picture(f"{name} picture {i}", rng.integers(0, 255, (h * 8, w * 8, 3), np.uint8))
        for i, (h, w) in enumerate(((4, 6), (5, 5)))
    )

    def look(i: int, registers: int = 0) -> Look:
        h, w = pictures[i].pixels.shape[0] // 8, pictures[i].pixels.shape[1] // 8
        size = rng.random((h, w)).astype(np.float32) + 5
        size[0, 1] = 400
        return Look(
            patch=rng.normal(size=(h, w, 10)).astype(np.float32),
            norms=np.stack([size * 0.5, size]),
            size=size,
            cls_attention=rng.random((2, h, w)).astype(np.float32) / (h * w),
            register_attention=rng.random((registers, h, w)).astype(np.float32) if registers else None,
            box=(1.0, 0.0, 3.0, 2.0),
            seed=(1, 2),
            classes=rng.integers(0, 2, (h, w)).astype(np.uint8),
            depth_m=rng.random((h, w)).astype(np.float32) + 1,
        )

    def looks(registers: int = 0) -> tuple[Look, ...]:
        return tuple(look(i, registers) for i in range(2))

    rows = (
        Row("none", looks()),
        Row(repair, looks(), ("patch", "patch_raw", "key"), own_forward=False),
        Row("maskclip", looks(), ("patch", "patch_raw")),
        Row("registers", looks(4), ("patch", "key"), swapped=True),
        Row("norm_clip", refused="nothing to clip"),
    )
    return Inspection(name, 8, pictures, rows, "20 train images of scenes", {"patch": "8 px"}, ("cat", "dog"))
