"""What is where in a lab scene, and how it is painted: everything random, and nothing of pixels.

A `Layout` (from seed and index) is the geometry: camera, room, solids, light, decals. A `Style` (from seed, index and
style) is paint only: colours and flat textures. Lengths are metres; X right, Y up, Z away from the camera.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

N_SHAPES = 6
N_RELIEFS = 4
N_TEXTURES = 5
MAX_OBJECTS = 5
TABLE = 256  # random tones that bricks, boards and stones are painted with

_GEOMETRY, _PAINT = 1, 2  # streams of the random generator

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Camera:
    """A pinhole looking along Z. `focal` and `horizon` are in image sides, the rest in metres."""

    focal: float
    horizon: float
    height: float
    x: float
    z: float


@dataclass(frozen=True)
class Solid:
    """An object: `shape` 0 to 5, centre and radius in metres, `angle` in radians, `mirror` +1 or -1."""

    shape: int
    x: float
    y: float
    z: float
    radius: float
    angle: float
    mirror: int
    velocity: tuple[float, float, float]  # metres a frame, x and y, and radians a frame


@dataclass(frozen=True)
class Decal:
    """A flat leaf on wall or floor (label and depth are those of the surface). Image sides and radians, in frame 0."""

    x: float
    y: float
    length: float
    width: float
    angle: float


@dataclass(frozen=True)
class Layout:
    """The geometry of one scene at one time. The wall is the plane X sin(a) + Z cos(a) = wall_distance."""

    camera: Camera
    wall_distance: float
    wall_angle: float
    reliefs: tuple[int, int]  # of wall and floor, 0 to 3
    relief_scale: tuple[float, float]
    solids: tuple[Solid, ...]  # far to near
    light: tuple[float, float, float]  # unit vector towards the light: right, down, to the camera
    ambient: float
    decals: tuple[Decal, ...]
    drift: tuple[float, float]  # of the camera, metres a frame, x and z


@dataclass(frozen=True)
class Paint:
    """Two colours, a flat texture that mixes them, and its direction, frequency and phase."""

    first: Floats  # 3
    second: Floats  # 3
    texture: int
    frequency: float
    angle: float
    phase: float


@dataclass(frozen=True)
class Style:
    """The paint of a scene."""

    solids: tuple[Paint, ...]
    surfaces: tuple[Paint, Paint]  # wall, floor
    tones: Floats  # TABLE
    decals: Floats  # n 3


def sample_layout(seed: int, index: int) -> Layout:
    """The geometry of scene `index` of `seed`, at time 0."""
    rng = np.random.default_rng((seed, index, _GEOMETRY))
    camera = Camera(1.15, float(rng.uniform(0.22, 0.5)), float(rng.uniform(1.3, 1.9)), 0.0, 0.0)
    wall, floor = rng.permutation(N_RELIEFS)[:2]
    elevation, azimuth = rng.uniform(0.5, 1.1), rng.uniform(-np.pi, 0.0)
    light = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
    return Layout(
        camera=camera,
        wall_distance=float(rng.uniform(6.0, 8.0)),
        wall_angle=float(rng.uniform(-0.45, 0.45)),
        reliefs=(int(wall), int(floor)),
        relief_scale=(float(rng.uniform(0.85, 1.25)), float(rng.uniform(0.85, 1.25))),
        solids=_sample_solids(rng, camera),
        light=(float(light[0]), float(light[1]), float(light[2])),
        ambient=float(rng.uniform(0.35, 0.55)),
        decals=tuple(_sample_decal(rng) for _ in range(rng.integers(5, 12))),
        drift=(float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.02, 0.08))),
    )


def _sample_solids(rng: np.random.Generator, camera: Camera) -> tuple[Solid, ...]:
    count = int(rng.integers(3, MAX_OBJECTS + 1))
    steps = np.sort(rng.uniform(0.0, 1.0, count))
    depths = (2.5 + 1.2 * steps + 0.3 * np.arange(count))[::-1]  # 0.3 m apart, so that bulges never cross
    slots = (rng.permutation(count) + rng.uniform(0.1, 0.9, count)) / count
    solids = []
    for z, slot in zip(depths, slots, strict=True):
        radius = float(rng.uniform(0.62, 0.84))
        x = (0.08 + 0.84 * slot - 0.5) * z / camera.focal
        top = (camera.horizon - 0.12) * z / camera.focal  # centre height at which the solid nears the upper edge
        standing = radius - camera.height
        y = standing + max(0.0, top - standing) * float(rng.uniform(0.0, 1.0)) ** 3
        solids.append(
            Solid(
                shape=int(rng.integers(N_SHAPES)),
                x=float(x),
                y=float(y),
                z=float(z),
                radius=radius,
                angle=float(rng.uniform(-np.pi / 6, np.pi / 6)),
                mirror=1 if rng.random() < 0.5 else -1,
                velocity=(float(rng.normal(0, 0.06)), float(rng.normal(0, 0.02)), float(rng.normal(0, 0.04))),
            )
        )
    return tuple(solids)


def _sample_decal(rng: np.random.Generator) -> Decal:
    x, y, length, aspect, angle = rng.uniform((0, 0, 0.012, 0.25, 0), (1, 1, 0.04, 0.9, np.pi))
    return Decal(float(x), float(y), float(length), float(length * aspect), float(angle))


def advance(layout: Layout, frames: int) -> Layout:
    """The same scene `frames` frames later; the depth order of the solids never changes."""
    moved = tuple(
        replace(
            solid,
            x=solid.x + frames * solid.velocity[0],
            y=solid.y + frames * solid.velocity[1],
            angle=solid.angle + frames * solid.velocity[2],
        )
        for solid in layout.solids
    )
    camera = layout.camera
    camera = replace(camera, x=camera.x + frames * layout.drift[0], z=camera.z + frames * layout.drift[1])
    return replace(layout, camera=camera, solids=moved)


def sample_style(seed: int, index: int, style: int, layout: Layout) -> Style:
    """Colours and textures number `style` for a layout. Nothing here depends on a shape or a relief."""
    rng = np.random.default_rng((seed, index, _PAINT, style))
    return Style(
        solids=tuple(_sample_paint(rng, (2.0, 6.0), 0.55) for _ in layout.solids),
        surfaces=(_sample_paint(rng, (0.6, 2.5), 0.35), _sample_paint(rng, (0.6, 2.5), 0.35)),
        tones=rng.random(TABLE, dtype=np.float32),
        decals=rng.uniform(0.1, 0.95, (len(layout.decals), 3)).astype(np.float32),
    )


def _sample_paint(rng: np.random.Generator, frequency: tuple[float, float], spread: float) -> Paint:
    first = _sample_colour(rng)
    second = first + np.float32(rng.uniform(0.2, spread)) * (_sample_colour(rng) - first)
    return Paint(
        first,
        second,
        int(rng.integers(N_TEXTURES)),
        float(rng.uniform(*frequency)),
        float(rng.uniform(0, np.pi)),
        float(rng.uniform(0, 2 * np.pi)),
    )


def _sample_colour(rng: np.random.Generator) -> Floats:
    """A colour of random hue, saturation and value, through the usual hexcone."""
    hue, saturation, value = rng.uniform((0.0, 0.1, 0.35), (6.0, 0.85, 1.0))
    wheel = np.clip(np.abs((hue + np.array((0.0, 4.0, 2.0))) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    colour: Floats = (value * (1.0 - saturation * (1.0 - wheel))).astype(np.float32)
    return colour
