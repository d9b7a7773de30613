"""From a layout and a style to pixels and exact targets (numpy; solids are painted far to near with soft edges).

Image positions are in image sides: pixel (row, column) of a picture of `size` has its centre at
((column + 0.5) / size, (row + 0.5) / size), whatever the size, so that a larger picture shows the same scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitbench.data.scene_layout import TABLE, Camera, Decal, Layout, Paint, Solid, Style
from vitbench.data.scene_shapes import REACH, SHAPES, Plane, Surface, groove

WALL, FLOOR, FIRST_SOLID = 0, 1, 2  # surface ids

Bytes = npt.NDArray[np.uint8]


@dataclass
class Canvas:
    """What is painted so far."""

    colour: Plane  # 3 h w, 0 to 1
    surface: Bytes  # h w, WALL, FLOOR or FIRST_SOLID + number of the solid
    depth: Plane  # h w, metres


@dataclass(frozen=True)
class Place:
    """Where a solid falls in the image: centre, radius (image sides), angle and mirror."""

    x: float
    y: float
    radius: float
    angle: float
    mirror: int


def paint_scene(layout: Layout, style: Style, size: int) -> Canvas:
    """Paint a layout with a style at `size` x `size` pixels."""
    canvas = _paint_room(layout, style, size)
    for decal, colour in zip(layout.decals, style.decals, strict=True):
        _paint_decal(canvas, layout, decal, colour)
    for solid in layout.solids:
        _paint_shadow(canvas, layout, solid)
    for number, (solid, paint) in enumerate(zip(layout.solids, style.solids, strict=True)):
        _paint_solid(canvas, layout, solid, paint, number)
    return canvas


def to_uint8(colour: Plane) -> Bytes:
    """3 h w in 0 to 1 -> h w 3 in 0 to 255."""
    scaled: Bytes = (np.clip(colour, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(scaled.transpose(1, 2, 0))


# -- the room ---------------------------------------------------------------------------------------------------


def axis(size: int) -> Plane:
    """Pixel centres along one side, in image sides."""
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


def wall_depth(layout: Layout, x: Plane) -> Plane:
    """Depth of the wall in metres at image column x."""
    sine, cosine = np.sin(layout.wall_angle), np.cos(layout.wall_angle)
    distance = layout.wall_distance - layout.camera.x * sine - layout.camera.z * cosine
    depth: Plane = (distance / (cosine + (x - 0.5) / layout.camera.focal * sine)).astype(np.float32)
    return depth


def floor_depth(camera: Camera, y: Plane) -> Plane:
    """Depth of the floor in metres at image row y; very far at and above the horizon."""
    below: Plane = np.maximum(y - camera.horizon, 1e-4).astype(np.float32)
    return camera.focal * camera.height / below


def wall_coordinates(layout: Layout, x: Plane, y: Plane, depth: Plane) -> tuple[Plane, Plane]:
    """Metres along the wall and above the camera, of the wall points seen at image x, y."""
    camera = layout.camera
    world_x = (x - 0.5) / camera.focal * depth + camera.x
    along = world_x * np.cos(layout.wall_angle) - (depth + camera.z) * np.sin(layout.wall_angle)
    return along.astype(np.float32), (-(y - camera.horizon) / camera.focal * depth).astype(np.float32)


def floor_coordinates(layout: Layout, x: Plane, depth: Plane) -> tuple[Plane, Plane]:
    """Metres to the right and ahead, of the floor points seen at image x and a depth."""
    camera = layout.camera
    world_x = (x - 0.5) / camera.focal * depth + camera.x
    return world_x.astype(np.float32), (depth + camera.z).astype(np.float32)


def _paint_room(layout: Layout, style: Style, size: int) -> Canvas:
    x, y = axis(size)[None, :], axis(size)[:, None]
    far, near = wall_depth(layout, x), floor_depth(layout.camera, y)
    is_floor = near < far
    meet = np.flatnonzero(is_floor.any(1))
    first = int(meet[0]) if meet.size else size  # first row that shows some floor
    last = int(np.flatnonzero(~is_floor.all(1))[-1]) + 1  # behind the last row that shows some wall
    colour = np.empty((3, size, size), np.float32)
    wall = wall_coordinates(layout, x, y[:last], far)
    _fill(colour[:, :last], layout, style, WALL, wall, np.broadcast_to(far, (last, size)))
    if first < size:
        ground = np.empty((3, size - first, size), np.float32)
        deep = np.broadcast_to(np.minimum(near[first:], far.max()), (size - first, size))
        _fill(ground, layout, style, FLOOR, floor_coordinates(layout, x, deep), deep)
        np.copyto(colour[:, first:], ground, where=is_floor[None, first:])
    depth = np.where(is_floor, near, far).astype(np.float32)
    return Canvas(colour, is_floor.astype(np.uint8), depth)


def _fill(
    out: Plane, layout: Layout, style: Style, surface: int, coordinates: tuple[Plane, Plane], depth: Plane
) -> None:
    scale = layout.relief_scale[surface]
    s, t = coordinates[0] / scale, coordinates[1] / scale
    shade, tone = RELIEFS[layout.reliefs[surface]](s, t, layout.light, style.tones)
    paint = style.surfaces[surface]
    mix = 0.6 * tone + 0.4 * _texture(s, t, paint)
    light = shade * (1.05 - 0.045 * depth)
    for channel in range(3):
        a, b = float(paint.first[channel]), float(paint.second[channel])
        np.multiply(a + (b - a) * mix, light, out=out[channel])


# -- reliefs: (brightness, tone 0 to 1) of points s, t in metres -------------------------------------------------


def _tone(tones: Plane, row: Plane, column: Plane | int) -> Plane:
    code = row.astype(np.int32) * 37 + (column * 11 if isinstance(column, int) else column.astype(np.int32) * 11)
    return np.asarray(tones[code % TABLE], np.float32)


def _bricks(s: Plane, t: Plane, light: tuple[float, float, float], tones: Plane) -> tuple[Plane, Plane]:
    row_position = t / 0.42
    row = np.floor(row_position)
    across = s / 0.84 + 0.5 * (row % 2)
    column = np.floor(across)
    du, dv = across - column, row_position - row
    edge = np.minimum(np.minimum(du, 1 - du) * 2, np.minimum(dv, 1 - dv))
    bevel = np.clip(1 - np.minimum(dv, 1 - dv) / 0.2, 0, 1) * np.sign(dv - 0.5)
    return groove(edge, 0.14, 0.5) * (0.95 - 0.25 * light[1] * bevel), _tone(tones, row, column)


def _planks(s: Plane, t: Plane, light: tuple[float, float, float], tones: Plane) -> tuple[Plane, Plane]:
    across = s / 0.4
    column = np.floor(across)
    du = across - column - 0.5
    shade = groove(0.5 - np.abs(du), 0.1, 0.4) * (0.9 + 0.5 * light[0] * du)
    return shade, _tone(tones, column, 0) * np.ones_like(t)


def _waves(s: Plane, t: Plane, light: tuple[float, float, float], tones: Plane) -> tuple[Plane, Plane]:
    crest = np.sin(t * (2 * np.pi / 0.7) + 1.3 * np.sin(s * 1.9 + 3.0 * tones[0]) + 0.8 * s)
    return 0.82 + (0.14 - 0.18 * light[1]) * crest, 0.5 + 0.25 * np.sin(s * 1.1 + t * 0.7)


def _cobbles(s: Plane, t: Plane, light: tuple[float, float, float], tones: Plane) -> tuple[Plane, Plane]:
    row_position = t / 0.5
    row = np.floor(row_position)
    across = s / 0.56 + 0.5 * (row % 2)
    column = np.floor(across)
    du, dv = across - column - 0.5, row_position - row - 0.5
    away = (du * du + dv * dv) * 4.0
    dome = np.clip(1.15 - away, 0.0, 1.0)
    lit = 1.0 + 0.9 * (du * light[0] - dv * light[1])
    return (0.35 + 0.6 * np.sqrt(dome)) * lit, _tone(tones, row, column)


RELIEFS = (_bricks, _planks, _waves, _cobbles)


# -- flat textures, decals, shadows ------------------------------------------------------------------------------


def _texture(u: Plane, v: Plane, paint: Paint) -> Plane:
    """How much of the second colour, 0 to 1: plain, stripes, checks, dots or clouds."""
    cosine, sine = np.cos(paint.angle) * paint.frequency, np.sin(paint.angle) * paint.frequency
    a: Plane = u * np.float32(cosine) + v * np.float32(sine) + np.float32(paint.phase)
    if paint.texture == 0:
        return np.full(a.shape, 0.3, np.float32)
    b = v * np.float32(cosine) - u * np.float32(sine)
    if paint.texture == 1:
        mix = 0.5 + 2.0 * np.sin(a * 2)
    elif paint.texture == 2:
        mix = 0.5 + 4.0 * np.sin(a * 2) * np.sin(b * 2)
    elif paint.texture == 3:
        mix = 2.5 * (np.sin(a * 2) + np.sin(b * 2)) - 2.2
    else:
        mix = 0.5 + 0.25 * (np.sin(a + 1.3 * np.sin(b)) + np.sin(0.7 * b - 0.6 * a))
    clipped: Plane = np.clip(mix, 0.0, 1.0)
    return clipped


def _window(x: float, y: float, half_x: float, half_y: float, size: int) -> tuple[slice, slice] | None:
    left, right = max(0, int((x - half_x) * size)), min(size, int((x + half_x) * size) + 2)
    top, bottom = max(0, int((y - half_y) * size)), min(size, int((y + half_y) * size) + 2)
    return None if left >= right or top >= bottom else (slice(top, bottom), slice(left, right))


def _paint_decal(canvas: Canvas, layout: Layout, decal: Decal, colour: Plane) -> None:
    size = canvas.depth.shape[0]
    x, y, scale = _follow_room(layout, decal.x, decal.y)
    length, width = decal.length * scale, decal.width * scale
    window = _window(x, y, length, length, size)
    if window is None:
        return
    du, dv = axis(size)[None, window[1]] - x, axis(size)[window[0], None] - y
    cosine, sine = np.cos(decal.angle), np.sin(decal.angle)
    radius = np.hypot((du * cosine + dv * sine) / length, (dv * cosine - du * sine) / width)
    alpha = np.clip((1.0 - radius) * width * size + 0.5, 0.0, 1.0).astype(np.float32)
    region = canvas.colour[:, window[0], window[1]]
    region += alpha * (colour[:, None, None] - region)


def _follow_room(layout: Layout, x: float, y: float) -> tuple[float, float, float]:
    """Where the wall or floor point seen at x, y by the first camera is now, and how much larger it looks."""
    start = Camera(layout.camera.focal, layout.camera.horizon, layout.camera.height, 0.0, 0.0)
    sine, cosine = np.sin(layout.wall_angle), np.cos(layout.wall_angle)
    far = layout.wall_distance / (cosine + (x - 0.5) / start.focal * sine)
    before = min(far, start.focal * start.height / max(y - start.horizon, 1e-4))
    depth = before - layout.camera.z
    scale = before / depth
    now_x = 0.5 + (x - 0.5) * scale - layout.camera.x * start.focal / depth
    return float(now_x), float(start.horizon + (y - start.horizon) * scale), float(scale)


def _paint_shadow(canvas: Canvas, layout: Layout, solid: Solid) -> None:
    size, camera = canvas.depth.shape[0], layout.camera
    place = locate(camera, solid)
    y = camera.horizon + camera.focal * camera.height / (solid.z - camera.z)
    lift = (solid.y + camera.height) / solid.radius  # 1 when it stands on the floor
    x = place.x - layout.light[0] * place.radius * 0.5 * lift
    half_x, half_y = place.radius * 1.15, place.radius * 0.32
    window = _window(x, y, half_x, half_y, size)
    if window is None:
        return
    du, dv = axis(size)[None, window[1]] - x, axis(size)[window[0], None] - y
    away = (du / half_x) ** 2 + (dv / half_y) ** 2
    dark = np.clip(1.0 - away, 0.0, 1.0) * np.float32(0.6 / max(1.0, lift))
    floor = canvas.surface[window] == FLOOR
    canvas.colour[:, window[0], window[1]] *= np.where(floor, 1.0 - dark, np.float32(1.0))


# -- solids --------------------------------------------------------------------------------------------------------


def locate(camera: Camera, solid: Solid) -> Place:
    """Project a solid: it faces the camera, so its image is a turned and scaled copy of its local plane."""
    depth = solid.z - camera.z
    x = 0.5 + (solid.x - camera.x) * camera.focal / depth
    y = camera.horizon - solid.y * camera.focal / depth
    return Place(x, y, solid.radius * camera.focal / depth, solid.angle, solid.mirror)


def to_local(place: Place, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Image position -> local u, v in object radii."""
    cosine, sine = np.cos(place.angle) / place.radius, np.sin(place.angle) / place.radius
    du, dv = x - np.float32(place.x), y - np.float32(place.y)
    u = (du * np.float32(cosine) + dv * np.float32(sine)) * np.float32(place.mirror)
    return u, dv * np.float32(cosine) - du * np.float32(sine)


def to_image(place: Place, u: Plane, v: Plane) -> tuple[Plane, Plane]:
    """Local u, v in object radii -> image position."""
    cosine, sine = np.cos(place.angle) * place.radius, np.sin(place.angle) * place.radius
    u = u * np.float32(place.mirror)
    x = np.float32(place.x) + u * np.float32(cosine) - v * np.float32(sine)
    return x, np.float32(place.y) + u * np.float32(sine) + v * np.float32(cosine)


def _paint_solid(canvas: Canvas, layout: Layout, solid: Solid, paint: Paint, number: int) -> None:
    size = canvas.depth.shape[0]
    place = locate(layout.camera, solid)
    window = _window(place.x, place.y, REACH * place.radius, REACH * place.radius, size)
    if window is None:
        return
    u, v = to_local(place, axis(size)[None, window[1]], axis(size)[window[0], None])
    surface = SHAPES[solid.shape][1](u, v)
    shade = _shade(surface, layout, place)
    alpha = np.clip(0.5 - surface.distance * np.float32(place.radius * size), 0.0, 1.0)
    mix = _texture(u, v, paint)
    region = canvas.colour[:, window[0], window[1]]
    for channel in range(3):
        a, b = float(paint.first[channel]), float(paint.second[channel])
        region[channel] += alpha * ((a + (b - a) * mix) * shade - region[channel])
    inside = surface.distance < 0
    canvas.surface[window][inside] = FIRST_SOLID + number
    relief = np.float32(solid.z - layout.camera.z) - np.float32(0.28) * surface.bulge
    canvas.depth[window][inside] = relief[inside]


def _shade(surface: Surface, layout: Layout, place: Place) -> Plane:
    right, down, out = layout.light
    cosine, sine = np.cos(place.angle), np.sin(place.angle)
    light_u = np.float32((right * cosine + down * sine) * place.mirror)
    light_v = np.float32(down * cosine - right * sine)
    nu, nv = surface.normal_u, surface.normal_v
    facing = np.sqrt(np.clip(1.0 - nu * nu - nv * nv, 0.0, 1.0))
    lambert = np.maximum(nu * light_u + nv * light_v + facing * np.float32(out), 0.0)
    rim = 0.45 + 0.55 * np.clip(-surface.distance / 0.07, 0.0, 1.0)
    ambient = np.float32(layout.ambient)
    shade: Plane = surface.crease * rim * (ambient + (np.float32(1.25) - ambient) * lambert)
    return shade
