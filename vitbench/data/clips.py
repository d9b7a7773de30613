"""The lab's clips: scenes in motion, frame by frame, with exact object masks and points followed through them.

Objects move rigidly, the camera drifts before wall and floor, the near hide the far, and the light changes colour from frame
to frame. A frame is a sample with the key `video/frame`; it is rendered from (seed, clip, frame) alone, the first one as the
still of the same seed and index.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitbench.data.scene_layout import Layout, advance, sample_layout, sample_style
from vitbench.data.scene_render import FIRST_SOLID, paint_scene
from vitbench.data.scenes import Scene, finish, follow

if TYPE_CHECKING:
    import datasets

VERSION = 1  # of the pictures and targets: any change of either is a new version
FRAMES = 10
SPLITS = {"train": (3, 200), "val": (4, 400)}  # name: (seed, frames)
POINTS = 8  # followed on each object, at most
DIMMEST = 0.4  # least share of the light in each of red, green and blue, new in every frame but the first
_LIGHT = 4  # stream of the random generator
LATER = (3, 6, 9)  # frames in which points of the first are looked for; nearer ones are all but the same

Bytes = npt.NDArray[np.uint8]
Sample = dict[str, Any]


def load(split: str, limit: int | None = None, size: int = 192) -> datasets.Dataset:
    """The frames of a split in order, rendered on access, as a `datasets.Dataset`; `limit` keeps the first frames.

    Columns on access: key, image (uint8 h w 3), frames (video, index, count), segmentation (uint8 h w: the number of an
    object that the first frame shows, 0 elsewhere), depth (float32 h w, metres), boxes (float32 n 4, pixels) and
    boxes_track (n, the number of the object), label, keypoints (on first frames: points of one object in this and in a
    later frame, a pair each).
    """
    import datasets

    if split not in SPLITS:
        raise ValueError(f"clips have no split {split!r}; there are: {', '.join(SPLITS)}")
    seed, count = SPLITS[split]
    count = count if limit is None else min(limit, count)
    places = [divmod(i, FRAMES) for i in range(count)]
    table = datasets.Dataset.from_dict(
        {
            "key": [f"{_name(split, c)}/{f:02d}" for c, f in places],
            "clip": [c for c, _ in places],
            "frame": [f for _, f in places],
        }
    )
    return table.with_transform(partial(_decode, split=split, seed=seed, size=size))


def _decode(batch: dict[str, list[Any]], split: str, seed: int, size: int) -> dict[str, list[Any]]:
    made = [frame(split, seed, c, f, size) for c, f in zip(batch["clip"], batch["frame"], strict=True)]
    return {**batch, **{name: [sample[name] for sample in made] for name in made[0]}}


def frame(split: str, seed: int, clip: int, number: int, size: int) -> Sample:
    """One frame with its targets."""
    layouts, scenes, surfaces = _rendered(seed, clip, size)
    scene, name = scenes[number], _name(split, clip)
    known = [int(n) for n in scenes[0].box_instances]
    pairs = [] if number else [
        pair for t in LATER for n in known if (pair := _pair(name, layouts, scenes, surfaces, n, t)) is not None
    ]  # fmt: skip
    return {
        "image": scene.image,
        "frames": {"video": name, "index": number, "count": FRAMES},
        "segmentation": np.where(np.isin(scene.instances, known), scene.instances, 0).astype(np.uint8),
        "depth": scene.depth,
        "boxes": scene.boxes,
        "boxes_track": scene.box_instances,
        "label": scene.label,
        "keypoints": pairs,
    }


def _name(split: str, clip: int) -> str:
    return f"clips-{split}-{clip:04d}"


@lru_cache(maxsize=2)  # frames are asked for one after another, and the first one needs all
def _rendered(seed: int, clip: int, size: int) -> tuple[list[Layout], list[Scene], list[Bytes]]:
    start = sample_layout(seed, clip)
    look = sample_style(seed, clip, 0, start)
    layouts = [advance(start, t) for t in range(FRAMES)]
    canvases = [paint_scene(layout, look, size) for layout in layouts]
    # Objects keep their paint; under steady light, colour alone would follow them better than any backbone.
    light = np.random.default_rng((seed, clip, _LIGHT)).uniform(DIMMEST, 1.0, (FRAMES, 3)).astype(np.float32)
    for canvas, gain in zip(canvases[1:], light[1:], strict=True):
        canvas.colour *= gain[:, None, None]
    return layouts, [finish(c, m) for c, m in zip(canvases, layouts, strict=True)], [c.surface for c in canvases]


def _pair(
    name: str, layouts: list[Layout], scenes: list[Scene], surfaces: list[Bytes], number: int, t: int
) -> Sample | None:
    """Points of an object that the first frame and frame t both show; None where there are none or it has no box then."""
    first, later = scenes[0], scenes[t]
    at = np.flatnonzero(later.box_instances == number)
    if not at.size:
        return None
    rows, cols = np.nonzero(first.instances == number)
    size = first.instances.shape[0]
    x, y = ((v + 0.5).astype(np.float32) / np.float32(size) for v in (cols, rows))
    to_x, to_y = follow(FIRST_SOLID + number - 1, x, y, layouts[0], layouts[t])
    inside = (to_x >= 0) & (to_x < 1) & (to_y >= 0) & (to_y < 1)
    pixel = [np.clip(np.floor(v * size).astype(int), 0, size - 1) for v in (to_y, to_x)]
    seen = np.flatnonzero(inside & (surfaces[t][pixel[0], pixel[1]] == FIRST_SOLID + number - 1))
    if not seen.size:
        return None
    chosen = seen[np.unique(np.linspace(0, seen.size - 1, POINTS + 2).astype(int)[1:-1])]
    source = int(np.flatnonzero(first.box_instances == number)[0])
    return {
        "pair": f"{name}-{number}-{t:02d}",
        "target": f"{name}/{t:02d}",
        "label": int(first.box_classes[source]),
        "source_xy": np.stack([x[chosen], y[chosen]], 1) * np.float32(size),
        "target_xy": np.stack([to_x[chosen], to_y[chosen]], 1) * np.float32(size),
        "numbers": chosen,
        "source_box": first.boxes[source],
        "target_box": later.boxes[int(at[0])],
    }
