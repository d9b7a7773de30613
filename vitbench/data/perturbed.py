"""The lab's scenes seen again: blurred, under noise, or from nearer, for finding the same object once more.

Laid out as videos, whose samples are windows of one larger rendering: `video/00` is one of them as it is, `video/01` another,
to the side and in another light, and the others are that, changed ever more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from vitbench.data.clips import DIMMEST
from vitbench.data.scene_layout import sample_layout, sample_style
from vitbench.data.scene_render import Canvas, paint_scene
from vitbench.data.scenes import Scene, finish

if TYPE_CHECKING:
    import datasets

VERSION = 2  # of the pictures and targets: any change of either is a new version
SPLITS = {"train": (5, 80), "val": (6, 300)}  # name: (seed, samples)
LEVELS = 5  # the scene itself, seen from another place, and so at three strengths
WIDER = 1.2  # sides of what is rendered, in sides of what a sample shows of it
BLUR_PX = (0.0, 0.0, 1.0, 1.5, 2.0)  # sigma at 192 pixels
NOISE = (0.0, 0.0, 0.025, 0.05, 0.1)  # standard deviation, of the range
ZOOM = (1.0, 1.0, 1.25, 1.5, 2.0)
_NOISE, _LIGHT, _PLACE = 3, 4, 5  # streams of the random generator

Bytes = npt.NDArray[np.uint8]
Sample = dict[str, Any]


def load(split: str, limit: int | None = None, size: int = 192, *, change: str) -> datasets.Dataset:
    """The samples of a split, rendered on access; `change` is blur, noise or zoom, `limit` keeps the first.

    Columns on access: key, image (uint8 h w 3), frames (video, index, count), boxes (float32 n 4, pixels), boxes_track
    (n, the object, the same at every strength), segmentation (uint8 h w, the number of the object).
    """
    import datasets

    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; there are: {', '.join(SPLITS)}")
    seed, count = SPLITS[split]
    count = count if limit is None else min(limit, count)
    places = [divmod(i, LEVELS) for i in range(count)]
    names = [f"scenes_{change}-{split}-{scene:04d}" for scene, _ in places]
    table = datasets.Dataset.from_dict(
        {
            "key": [f"{name}/{level:02d}" for name, (_, level) in zip(names, places, strict=True)],
            "video": names,
            "scene": [scene for scene, _ in places],
            "level": [level for _, level in places],
        }
    )
    return table.with_transform(partial(_decode, change=change, seed=seed, size=size))


def _decode(batch: dict[str, list[Any]], change: str, seed: int, size: int) -> dict[str, list[Any]]:
    made = [
        {**CHANGES[change](seed, scene, level, size), "frames": {"video": video, "index": level, "count": LEVELS}}
        for video, scene, level in zip(batch["video"], batch["scene"], batch["level"], strict=True)
    ]
    return {**batch, **{name: [sample[name] for sample in made] for name in made[0]}}


def _seen(seed: int, index: int, level: int, size: int, zoom: float = 1.0) -> Scene:
    """What a sample shows of a scene: from level 1 on from another place, in another light.

    Else place or colour alone would tell which object is which, whatever is done to the picture. Not mirrored: features
    that tell directions apart would then find nothing at any strength.
    """
    layout = sample_layout(seed, index)
    canvas = paint_scene(layout, sample_style(seed, index, 0, layout), round(size * WIDER * zoom))
    if level:
        light = np.random.default_rng((seed, index, _LIGHT)).uniform(DIMMEST, 1.0, (3, 1, 1))
        canvas.colour *= light.astype(np.float32)
    middle = (WIDER - 1) * places(seed, index)[min(level, 1)] + 0.5  # in sides of what is shown
    room = canvas.depth.shape[0] - size
    rows, cols = (slice(a, a + size) for a in np.clip(np.rint((middle * zoom - 0.5) * size).astype(int), 0, room))
    return finish(Canvas(canvas.colour[:, rows, cols], canvas.surface[rows, cols], canvas.depth[rows, cols]), layout)


def places(seed: int, index: int) -> npt.NDArray[np.float64]:
    """Where the first sample and the others look, down and right (2 2): shares of the room that a window has.

    They are at least half of it apart on both axes, each to a side of its own, so that no place tells where an object went.
    """
    rng = np.random.default_rng((seed, index, _PLACE))
    near = np.stack((rng.uniform(0, 0.25, 2), rng.uniform(0.75, 1, 2)))
    return np.where(rng.random(2) < 0.5, near, near[::-1])


def _sample(image: Bytes, scene: Scene) -> Sample:
    return {"image": image, "boxes": scene.boxes, "boxes_track": scene.box_instances, "segmentation": scene.instances}


def blurred(seed: int, index: int, level: int, size: int) -> Sample:
    """A scene with its picture blurred; targets are those of the scene."""
    scene = _seen(seed, index, level, size)
    sigma = BLUR_PX[level] * size / 192
    if not sigma:
        return _sample(scene.image, scene)
    soft = ndimage.gaussian_filter(scene.image.astype(np.float32), (sigma, sigma, 0))
    return _sample((soft + 0.5).astype(np.uint8), scene)


def noisy(seed: int, index: int, level: int, size: int) -> Sample:
    """A scene with Gaussian noise added to its picture, the same for the same scene and level."""
    scene = _seen(seed, index, level, size)
    if not NOISE[level]:
        return _sample(scene.image, scene)
    noise = np.random.default_rng((seed, index, _NOISE, level)).normal(0, 255 * NOISE[level], scene.image.shape)
    return _sample(np.clip(scene.image + noise + 0.5, 0, 255).astype(np.uint8), scene)


def zoomed(seed: int, index: int, level: int, size: int) -> Sample:
    """A window of a scene rendered larger: no pixel is interpolated, and objects may be cut by its edge."""
    scene = _seen(seed, index, level, size, ZOOM[level])
    return _sample(scene.image, scene)


CHANGES: dict[str, Callable[[int, int, int, int], Sample]] = {"blur": blurred, "noise": noisy, "zoom": zoomed}

load_blur = partial(load, change="blur")
load_noise = partial(load, change="noise")
load_zoom = partial(load, change="zoom")
