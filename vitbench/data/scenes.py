"""The lab's scenes: procedural pictures and clips with exact targets, from (seed, index, style) alone.

Three to five large solids of six classes stand or hover in a room whose wall and floor are of four kinds of relief.
Class is carried by shape: colours and flat textures are drawn without regard to it, and another `style` repaints the
same geometry. Any size shows the same scene at another resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitbench.data.scene_layout import Layout, advance, sample_layout, sample_style
from vitbench.data.scene_render import (
    FIRST_SOLID,
    FLOOR,
    WALL,
    Canvas,
    axis,
    floor_coordinates,
    floor_depth,
    locate,
    paint_scene,
    to_image,
    to_local,
    to_uint8,
    wall_coordinates,
    wall_depth,
)
from vitbench.data.scene_shapes import SHAPES

if TYPE_CHECKING:
    import datasets

VERSION = 1  # of the pictures and targets: any change of either is a new version
BACKGROUNDS = ("bricks", "planks", "waves", "cobbles")
CLASSES: tuple[str, ...] = (*(name for name, _ in SHAPES), *BACKGROUNDS)
OBJECT_CLASSES: tuple[int, ...] = tuple(range(len(SHAPES)))
BACKGROUND_CLASSES: tuple[int, ...] = tuple(range(len(SHAPES), len(CLASSES)))
IGNORE_INDEX = 255
SPLITS = {"train": (1, 2000), "val": (2, 500)}  # name: (seed, scenes)
SMALLEST_PART = 0.002  # share of the picture below which the visible part of an object gets no box

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Scene:
    """A picture (h w, square) and its targets; n boxed objects. Clip frames also carry flow."""

    image: Bytes  # h w 3
    segmentation: Bytes  # h w, index into CLASSES, 255 on the outline of objects
    depth: Floats  # h w, metres
    instances: Bytes  # h w, 0 background, else the object's number from 1, the same in all frames of a clip
    boxes: Floats  # n 4, x0 y0 x1 y1 in pixels (x1 y1 exclusive) of the visible part
    box_classes: npt.NDArray[np.int64]  # n
    box_instances: npt.NDArray[np.int64]  # n, value in `instances`
    label: int  # class of the object with the largest visible part
    flow: Floats | None = None  # h w 2, pixels right and down to the next frame; None in a still or a last frame
    flow_valid: npt.NDArray[np.bool_] | None = None  # h w, the point is inside and unoccluded in the next frame


def render(seed: int, index: int, size: int = 192, style: int = 0) -> Scene:
    """Scene `index` of `seed`, painted in `style`, at size x size pixels."""
    layout = sample_layout(seed, index)
    return finish(paint_scene(layout, sample_style(seed, index, style, layout), size), layout)


def render_clip(seed: int, index: int, frames: int = 8, size: int = 192, style: int = 0) -> list[Scene]:
    """A clip that starts with the still `render(seed, index, size, style)`: camera and objects move.

    All frames but the last carry exact correspondences with the next one.
    """
    if frames < 1:
        raise ValueError(f"a clip needs at least one frame, not {frames}")
    start = sample_layout(seed, index)
    look = sample_style(seed, index, style, start)
    layouts = [advance(start, frame) for frame in range(frames)]
    canvases = [paint_scene(layout, look, size) for layout in layouts]
    clip = []
    for frame, (canvas, layout) in enumerate(zip(canvases, layouts, strict=True)):
        if frame + 1 == frames:
            clip.append(finish(canvas, layout))
        else:
            motion = _correspond(canvas.surface, layout, canvases[frame + 1].surface, layouts[frame + 1])
            clip.append(finish(canvas, layout, *motion))
    return clip


def load(split: str, limit: int | None = None, size: int = 192, style: int = 0) -> datasets.Dataset:
    """The scenes of a split, rendered on access, as a `datasets.Dataset`.

    Columns on access: image (uint8 h w 3), key, index, label, segmentation (uint8 h w), depth (float32 h w, metres),
    boxes (float32 n 4, pixels), box_classes, instances (uint8 h w), labels and labels_unsure (`shown`). `limit` keeps the
    first scenes.
    """
    import datasets

    if split not in SPLITS:
        raise ValueError(f"scenes have no split {split!r}; there are: {', '.join(SPLITS)}")
    seed, count = SPLITS[split]
    count = count if limit is None else min(limit, count)
    keys = [f"scenes-{split}-{index:06d}" for index in range(count)]
    table = datasets.Dataset.from_dict({"key": keys, "index": list(range(count))})
    return table.with_transform(partial(_decode, seed=seed, size=size, style=style))


def _decode(batch: dict[str, list[Any]], seed: int, size: int, style: int) -> dict[str, list[Any]]:
    scenes = [render(seed, index, size, style) for index in batch["index"]]
    names = ("image", "label", "segmentation", "depth", "boxes", "box_classes", "instances")
    sure, unsure = ([list(found) for found in part] for part in zip(*map(shown, scenes), strict=True))
    columns = {name: [getattr(scene, name) for scene in scenes] for name in names}
    return {**batch, **columns, "labels": sure, "labels_unsure": unsure}


def shown(scene: Scene) -> tuple[list[int], list[int]]:
    """Classes of the objects in a scene, and those of which only parts too small for a box are visible."""
    sure = sorted({int(number) for number in scene.box_classes})
    visible = np.intersect1d(scene.segmentation, OBJECT_CLASSES)
    return sure, [int(number) for number in visible if number not in sure]


# -- targets -------------------------------------------------------------------------------------------------------


def finish(
    canvas: Canvas, layout: Layout, flow: Floats | None = None, flow_valid: npt.NDArray[np.bool_] | None = None
) -> Scene:
    """A painted layout as a picture with its targets."""
    surface = canvas.surface
    instances = np.where(surface >= FIRST_SOLID, surface - (FIRST_SOLID - 1), 0).astype(np.uint8)
    classes = [len(SHAPES) + relief for relief in layout.reliefs] + [solid.shape for solid in layout.solids]
    segmentation = np.array(classes, np.uint8)[surface]
    segmentation[_outline(instances)] = IGNORE_INDEX
    boxes, numbers = boxes_of(instances, len(layout.solids))
    areas = np.bincount(instances.ravel(), minlength=len(layout.solids) + 1)[1:]
    return Scene(
        image=to_uint8(canvas.colour),
        segmentation=segmentation,
        depth=canvas.depth,
        instances=instances,
        boxes=boxes,
        box_classes=np.array([layout.solids[number - 1].shape for number in numbers], np.int64),
        box_instances=np.array(numbers, np.int64),
        label=layout.solids[int(areas.argmax())].shape,
        flow=flow,
        flow_valid=flow_valid,
    )


def _outline(instances: Bytes) -> npt.NDArray[np.bool_]:
    """Pixels on either side of a change of instance: two pixels wide at 192, the same share of larger pictures."""
    step = max(1, round(instances.shape[0] / 192))
    outline = np.zeros(instances.shape, bool)
    rows = instances[step:] != instances[:-step]
    columns = instances[:, step:] != instances[:, :-step]
    outline[step:] |= rows
    outline[:-step] |= rows
    outline[:, step:] |= columns
    outline[:, :-step] |= columns
    return outline


def boxes_of(instances: Bytes, count: int) -> tuple[Floats, Sequence[int]]:
    """Boxes (n 4) and numbers of the objects 1 to `count` of which enough is visible."""
    boxes, numbers = [], []
    for number in range(1, count + 1):
        mask = instances == number
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if rows.size and mask.sum() >= SMALLEST_PART * mask.size:
            boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
            numbers.append(number)
    return np.array(boxes, np.float32).reshape(-1, 4), numbers


# -- correspondences -----------------------------------------------------------------------------------------------


def _correspond(
    surface: Bytes, layout: Layout, next_surface: Bytes, next_layout: Layout
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Flow in pixels (h w 2) from one frame to the next, and where its end shows the same surface."""
    size = surface.shape[0]
    x, y = np.broadcast_to(axis(size)[None, :], surface.shape), np.broadcast_to(axis(size)[:, None], surface.shape)
    to_x, to_y = np.empty(surface.shape, np.float32), np.empty(surface.shape, np.float32)
    for number in np.unique(surface):
        mask = surface == number
        to_x[mask], to_y[mask] = follow(int(number), x[mask], y[mask], layout, next_layout)
    columns, rows = np.floor(to_x * size).astype(int), np.floor(to_y * size).astype(int)
    inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    seen = next_surface[np.clip(rows, 0, size - 1), np.clip(columns, 0, size - 1)]
    flow: Floats = np.stack((to_x - x, to_y - y), -1).astype(np.float32) * np.float32(size)
    valid: npt.NDArray[np.bool_] = inside & (seen == surface)
    return flow, valid


def follow(surface: int, x: Floats, y: Floats, layout: Layout, after: Layout) -> tuple[Floats, Floats]:
    """Image position (image sides), in another frame, of points on one surface."""
    if surface >= FIRST_SOLID:
        solid = surface - FIRST_SOLID
        u, v = to_local(locate(layout.camera, layout.solids[solid]), x, y)
        return to_image(locate(after.camera, after.solids[solid]), u, v)
    camera = after.camera
    if surface == FLOOR:
        world_x, world_z = floor_coordinates(layout, x, floor_depth(layout.camera, y))
        height = np.full_like(x, -camera.height)
    else:
        assert surface == WALL
        along, height = wall_coordinates(layout, x, y, wall_depth(layout, x))
        sine, cosine = np.float32(np.sin(layout.wall_angle)), np.float32(np.cos(layout.wall_angle))
        world_x = along * cosine + np.float32(layout.wall_distance) * sine
        world_z = np.float32(layout.wall_distance) * cosine - along * sine
    depth = world_z - camera.z
    to_x = 0.5 + (world_x - camera.x) * camera.focal / depth
    return to_x.astype(np.float32), (camera.horizon - height * camera.focal / depth).astype(np.float32)
