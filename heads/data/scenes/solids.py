"""The solids of generated scenes: intersections with rays, normals and surface coordinates.

Local coordinates [m]: x and z horizontal, rotated with the solid, h height above the floor, origin below its centre.
Every solid stands on the floor and is seen from above its top, so its underside is never visible.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
KINDS = ("box", "ball", "cylinder", "cone")


@dataclass(frozen=True)
class Solid:
    """A solid standing on the floor.

    Attributes:
        kind: box, ball, cylinder or cone.
        x: Position of its centre to the right of the camera [m].
        z: Position of its centre in front of the camera [m].
        yaw: Rotation about the vertical axis [rad].
        half: Half its side, or its radius, along its local x and z [m].
        height: Height [m]; for a ball twice the radius.
    """

    kind: str
    x: float
    z: float
    yaw: float
    half: tuple[float, float]
    height: float

    @property
    def reach(self) -> float:
        """Radius of its upright bounding cylinder [m]."""
        return float(np.hypot(*self.half)) if self.kind == "box" else self.half[0]

    def to_local(self, x: Array, z: Array) -> tuple[Array, Array]:
        """Rotate room coordinates into local ones."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return cos * x - sin * z, sin * x + cos * z

    def to_room(self, x: Array, z: Array) -> tuple[Array, Array]:
        """The inverse of :meth:`to_local`."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return cos * x + sin * z, -sin * x + cos * z


def meet(solid: Solid, eye: float, x: Array, h: Array, z: Array) -> Array:
    """Intersections of rays from the camera with a solid.

    Args:
        solid: The solid.
        eye: Height of the camera above the floor [m].
        x: Direction of each ray to the right, ``(...)``.
        h: Its direction upwards.
        z: Its direction forwards.

    Returns:
        Ray parameters, as multiples of the directions, ``(...)``; infinite where a ray misses.
    """
    ox, oz = solid.to_local(np.array(-solid.x), np.array(-solid.z))
    dx, dz = solid.to_local(x, z)
    with np.errstate(divide="ignore", invalid="ignore"):
        if solid.kind == "box":
            return _first(
                _between(ox, dx, -solid.half[0], solid.half[0]),
                _between(eye, h, 0.0, solid.height),
                _between(oz, dz, -solid.half[1], solid.half[1]),
            )
        radius = solid.half[0]
        if solid.kind == "ball":
            up = eye - radius
            return _first(_roots(dx**2 + h**2 + dz**2, ox * dx + up * h + oz * dz, ox**2 + up**2 + oz**2 - radius**2))
        if solid.kind == "cylinder":
            side = _roots(dx**2 + dz**2, ox * dx + oz * dz, ox**2 + oz**2 - radius**2)
            return _first(side, _between(eye, h, 0.0, solid.height))
        return _meet_cone((radius / solid.height) ** 2, solid.height, eye, (ox, oz), (dx, h, dz))


def _meet_cone(slope: float, height: float, eye: float, origin: tuple[Array, Array], ray: tuple[Array, ...]) -> Array:
    """The nearer intersection with the cone between floor and tip; its mirror image above the tip does not count."""
    (ox, oz), (dx, h, dz), above = origin, ray, eye - height
    near, far = _roots(
        dx**2 + dz**2 - slope * h**2,
        ox * dx + oz * dz - slope * above * h,
        ox**2 + oz**2 - slope * above**2,
    )
    low, high = np.minimum(near, far), np.maximum(near, far)
    good = [np.where((t > 0) & (eye + t * h >= 0) & (eye + t * h <= height), t, np.inf) for t in (low, high)]
    found: Array = np.minimum(*good)
    return found


def _roots(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Solutions of a t^2 + 2 b t + c = 0; NaN where there are none."""
    root = np.sqrt(b**2 - a * c)
    return (-b - root) / a, (-b + root) / a


def _between(start: Array | float, direction: Array, low: float, high: float) -> tuple[Array, Array]:
    """Ray parameters at which a ray enters and leaves the space between two parallel planes."""
    a, b = (low - start) / direction, (high - start) / direction
    return np.minimum(a, b), np.maximum(a, b)


def _first(*intervals: tuple[Array, Array]) -> Array:
    """The start of the intersection of all intervals; infinite if it is empty or begins behind the camera."""
    enter, leave = intervals[0]
    for begins, ends in intervals[1:]:
        enter, leave = np.maximum(enter, begins), np.minimum(leave, ends)
    found: Array = np.where((enter <= leave) & (enter > 0), enter, np.inf)
    return found


def surface(solid: Solid, x: Array, h: Array, z: Array) -> tuple[Array, Array, Array]:
    """Normals and surface coordinates at points on a solid.

    Args:
        solid: The solid.
        x: Points to the right of the camera [m], ``(N,)``.
        h: Above the floor [m].
        z: In front of the camera [m].

    Returns:
        Normals as (right, up, forward) ``(3, N)``, and two coordinates along the surface [m], each ``(N,)``.
    """
    lx, lz = solid.to_local(x - solid.x, z - solid.z)
    if solid.kind == "box":
        normal, u, v = _box_surface(solid, lx, h, lz)
    else:
        radius, around = solid.half[0], np.arctan2(lz, lx)
        u, v = around * radius, h
        if solid.kind == "ball":
            normal = np.stack([lx, h - radius, lz]) / radius
            v = radius * np.arcsin(np.clip(normal[1], -1, 1))
        elif solid.kind == "cylinder":
            top = h > solid.height - 1e-9  # rounding
            normal = np.where(top, [[0.0], [1.0], [0.0]], [np.cos(around), np.zeros_like(h), np.sin(around)])
            u, v = np.where(top, lx, u), np.where(top, lz, v)
        else:
            side = np.hypot(radius, solid.height)
            up = np.full_like(h, radius)
            normal = np.stack([np.cos(around) * solid.height, up, np.sin(around) * solid.height]) / side
    normal[0], normal[2] = solid.to_room(normal[0], normal[2])
    return normal, u, v


def _box_surface(solid: Solid, x: Array, h: Array, z: Array) -> tuple[Array, Array, Array]:
    """The surface of a box: each point belongs to the nearest face."""
    place = np.stack([x, 2 * h - solid.height, z])
    outward = np.abs(place) / np.array([[solid.half[0]], [solid.height], [solid.half[1]]])
    face = outward.argmax(axis=0)
    normal = np.zeros_like(place)
    normal[face, np.arange(face.size)] = np.sign(place[face, np.arange(face.size)])
    return normal, np.where(face == 0, z, x), np.where(face == 1, z, h)
