"""The six solid shapes of the lab's scenes: silhouettes, surface normals and creases.

Each shape is a function of local coordinates (`u` right, `v` down, in object radii) and of nothing else: what tells
one class from another is its outline and how its surface turns, never its colour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.floating[Any]]

REACH = 1.3  # object radii that a shape may extend from its centre, before rotation


@dataclass(frozen=True)
class Surface:
    """A shape sampled at h x w local points."""

    distance: Plane  # h w, about the signed distance to the outline in object radii, negative inside
    normal_u: Plane  # h w, surface normal, right
    normal_v: Plane  # h w, surface normal, down
    bulge: Plane  # h w, 0 (outline) to 1 (nearest to the camera)
    crease: Plane  # h w, brightness factor of grooves and folds


def _fold(x: Plane) -> Plane:
    """Distance to the nearest integer."""
    return np.abs(x - np.rint(x))


def groove(distance: Plane, width: float, floor: float) -> Plane:
    ramp: Plane = np.clip(distance / width, 0.0, 1.0)
    return floor + (1.0 - floor) * ramp


def ring(u: Plane, v: Plane) -> Surface:
    """A thick torus seen from the front, cut into ten segments."""
    radius = np.hypot(u, v) + 1e-6
    across = (radius - 0.64) / 0.31
    angle = np.arctan2(v, u)
    crease = groove(_fold(angle * (10 / (2 * np.pi))) * radius, 0.05, 0.45)
    bulge = np.sqrt(np.clip(1.0 - across**2, 0.0, 1.0))
    return Surface(np.abs(radius - 0.64) - 0.31, across * u / radius, across * v / radius, bulge, crease)


def box(u: Plane, v: Plane) -> Surface:
    """A cuboid with front, top and side, and a framed panel on its front."""
    front = np.maximum(np.abs(u + 0.2) - 0.58, np.abs(v - 0.2) - 0.6)
    top = np.maximum(np.abs(v + 0.61) - 0.21, np.abs(u + v + 0.6) - 0.58)
    side = np.maximum(np.abs(u - 0.59) - 0.21, np.abs(u + v - 0.58) - 0.6)
    distance = np.minimum(np.minimum(front, top), side)
    on_top, on_side = top <= distance, (side <= distance) & (front > distance)
    normal_v = np.where(on_top, np.float32(-0.8), np.float32(0.0))
    normal_u = np.where(on_side, np.float32(0.8), np.float32(0.0))
    panel = np.abs(front + 0.2)
    seam = np.minimum(np.minimum(np.abs(front), np.abs(top)), np.abs(side))
    crease = groove(np.minimum(panel, seam), 0.05, 0.45)
    bulge = np.where(front <= distance, np.float32(1.0), np.clip(-distance * 4.0, 0.0, 1.0))
    return Surface(distance, normal_u, normal_v, bulge, crease)


def star(u: Plane, v: Plane) -> Surface:
    """A five-pointed star with a ridge along every arm."""
    sector = 2 * np.pi / 5
    radius = np.hypot(u, v) / 1.22
    angle = np.arctan2(u, -v)
    arm = np.rint(angle / sector).astype(np.int8) % 5
    offset = angle - np.rint(angle / sector) * sector
    along, aside = radius * np.cos(offset), radius * np.abs(np.sin(offset))
    distance = ((along - 1.0) * 0.282 + aside * 0.612) / 0.674 * 1.22
    axis = np.arange(5, dtype=np.float32) * np.float32(sector)
    tilt = np.sign(offset) * np.float32(0.7)
    bulge = np.clip(-distance * 2.5, 0.0, 1.0)
    crease = groove(np.minimum(aside, 0.38 * along + 0.0 * aside), 0.025, 0.55)
    return Surface(distance, tilt * np.cos(axis)[arm], tilt * np.sin(axis)[arm], bulge, crease)


_TIERS = ((-0.98, -0.34, 0.46), (-0.68, 0.16, 0.64), (-0.28, 0.70, 0.82))  # apex, base, half width
_FIR_SCALE = 1.2


def fir(u: Plane, v: Plane) -> Surface:
    """Three stacked cones on a trunk; an upper cone lies over the next one."""
    u, v = u / _FIR_SCALE, v / _FIR_SCALE
    trunk = np.maximum(np.abs(u) - 0.15, np.abs(v - 0.8) - 0.2)
    distance = trunk
    turn, crease = np.clip(u / 0.15, -1, 1) * 0.9, np.full_like(u, 0.6)
    for apex, base, half_width in reversed(_TIERS):
        fraction = (v - apex) / np.float32(base - apex)
        width = half_width * np.clip(fraction, 0.02, 1.0)
        tier = np.maximum((np.abs(u) - half_width * fraction) * 0.8, v - base)
        inside = tier < 0
        turn = np.where(inside, np.clip(u / width, -1, 1) * 0.85, turn)
        crease = np.where(inside, 0.5 + 0.6 * np.clip(fraction, 0.0, 1.0), crease)
        distance = np.minimum(distance, tier)
    bulge = np.sqrt(np.clip(1.0 - turn**2, 0.0, 1.0)) * np.clip(-distance * 8.0, 0.0, 1.0)
    return Surface(distance * _FIR_SCALE, turn, np.full_like(u, -0.3), bulge, crease)


def barrel(u: Plane, v: Plane) -> Surface:
    """A bellied barrel with an open lid and hoops around it."""
    width = 0.74 - 0.22 * v**2
    lid = (np.hypot(u / 0.6, (v + 0.8) / 0.17) - 1.0) * 0.17
    foot = (np.hypot(u / 0.6, (v - 0.8) / 0.17) - 1.0) * 0.17
    body = np.maximum(np.abs(u) - width, np.abs(v) - 0.8)
    distance = np.minimum(np.minimum(body, lid), foot)
    turn = np.clip(u / width, -1.0, 1.0)
    round_ = np.sqrt(1.0 - turn**2 * 0.98)
    on_lid = lid < 0
    crease = groove(_fold((v - 0.17 * round_) * 2.2), 0.14, 0.4)
    crease = np.where(on_lid, np.float32(0.5) + np.clip(-lid * 5.0, 0, 0.5), crease)
    bulge = round_ * np.clip(-distance * 8.0, 0.0, 1.0)
    normal_v = np.where(on_lid, np.float32(-0.8), np.float32(0.0))
    return Surface(distance, np.where(on_lid, np.float32(0.0), turn * 0.95), normal_v, bulge, crease)


def pinecone(u: Plane, v: Plane) -> Surface:
    """An upright ellipsoid covered by a diagonal lattice of scales."""
    a, b = u / 0.74, v / 0.98
    radius = np.hypot(a, b)
    stretch = 1.0 + 0.35 * radius**2
    first, second = _fold((a + b) * stretch * 1.9), _fold((a - b) * stretch * 1.9)
    crease = groove(np.minimum(first, second), 0.16, 0.35)
    bulge = np.sqrt(np.clip(1.0 - radius**2, 0.0, 1.0))
    return Surface((radius - 1.0) * 0.84, a * 0.95, b * 0.95, bulge, crease)


SHAPES: tuple[tuple[str, Callable[[Plane, Plane], Surface]], ...] = (
    ("ring", ring),
    ("box", box),
    ("star", star),
    ("fir", fir),
    ("barrel", barrel),
    ("pinecone", pinecone),
)
