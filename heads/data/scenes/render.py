"""Generated scenes: lit rooms with textured solids, and the ground truth of each pixel.

They are also a benchmark in which neither position nor colour is enough. mIoU over the seven classes on 100 held-out
scenes of 128 px, with 6000 for training, by ``python benchmarks/scenes.py --baselines``:

* 0.300 for the most frequent class at each pixel position;
* 0.217 for a linear probe on the raw pixels of 8 x 8 patches;
* 0.705 for the same probe on a tiny tower (width 96, 4 blocks) trained with it, each scene seen once.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .captions import describe
from .materials import Material, draw_material, paint
from .solids import KINDS, Array, Solid, meet, surface

CLASSES: dict[str, list[int]] = {
    "box": [214, 39, 40],
    "ball": [255, 187, 20],
    "cylinder": [31, 119, 180],
    "cone": [44, 160, 44],
    "floor": [140, 100, 75],
    "wall": [150, 150, 160],
    "ceiling": [230, 230, 230],
}
"""Class names and colours, in the order of the mask's values: first the solids, then the room."""

EYE = 1.5  # height of the camera above the floor [m]
PITCH = np.deg2rad(14.0)  # downward tilt of the camera [rad]
FOCAL = 0.85  # focal length in image widths
_FLOOR, _WALL, _CEILING = (list(CLASSES).index(name) for name in ("floor", "wall", "ceiling"))
_VISIBLE = 12 / 128**2  # smallest fraction of the image that makes a solid visible


@dataclass(frozen=True)
class Scene:
    """A rendered scene. Camera coordinates: x to the right, y down, z forward [m].

    Attributes:
        image: RGB, uint8 ``(H, W, 3)``.
        mask: Class of each pixel, int64 ``(H, W)``.
        depth: Distance along the optical axis (z, not along the ray) [m], float32 ``(1, H, W)``.
        normal: Unit normals of the surfaces, towards the camera, float32 ``(3, H, W)``; a wall seen head-on has
            (0, 0, -1).
        boxes: Boxes of the visible solids' pixels: left, top, right, bottom edges [px], float32 ``(N, 4)``.
        labels: Their classes, int64 ``(N,)``.
        instance_masks: Their pixels, bool ``(N, H, W)``.
        caption: A sentence that names them, with their colours and positions.
        intrinsics: Camera matrix [px], float32 ``(3, 3)``; pixel i covers [i, i + 1).
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.int64]
    depth: NDArray[np.float32]
    normal: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    instance_masks: NDArray[np.bool_]
    caption: str
    intrinsics: NDArray[np.float32]


@dataclass(frozen=True)
class _Room:
    """Planes around the camera: their inward normals (right, up, forward) and distances to it [m]."""

    normals: Array  # (5, 3): floor, ceiling, back, left, right
    distances: Array
    height: float

    CLASS = (_FLOOR, _CEILING, _WALL, _WALL, _WALL)


def render(key: tuple[int, ...], size: tuple[int, int]) -> Scene:
    """The scene of a key, such as (seed, split, index); the same key always gives the same pixels.

    Args:
        key: Non-negative integers.
        size: Height and width of the image [px].

    Source: written for this library (analytic ray casting, Lambertian shading).
    """
    rng = np.random.default_rng(key)
    room = _draw_room(rng)
    solids: list[Solid] = []
    while len(solids) < 3:  # rarely runs twice
        solids = _draw_solids(rng, room)
    names = ("floor", "ceiling", "wall", "wall", "wall")
    wall = draw_material("wall", rng)
    materials = [wall if n == "wall" else draw_material(n, rng) for n in names]
    materials += [draw_material(s.kind, rng) for s in solids]
    rays = _rays(size)
    depth, which = _cast(rays, room, solids)
    normal, colour = _shade(rays * depth, which, room, solids, materials, rng)
    noise = rng.standard_normal((*size, 3), dtype=np.float32) * 0.02
    image = np.clip(colour.reshape(*size, 3) + noise, 0, 1) * 255 + 0.5
    classes = np.array([*_Room.CLASS, *(KINDS.index(s.kind) for s in solids)])
    which = which.reshape(size)
    seen = _visible(which, len(solids))
    masks = np.stack([which == i + 5 for i in seen]) if seen else np.zeros((0, *size), bool)
    boxes = np.array([_box(m) for m in masks], np.float32).reshape(-1, 4)
    return Scene(
        image.astype(np.uint8),
        classes[which],
        depth.reshape(1, *size).astype(np.float32),
        _to_camera(normal).reshape(3, *size).astype(np.float32),
        boxes,
        classes[np.array(seen, np.int64) + 5],
        masks,
        describe([solids[i] for i in seen], [materials[i + 5] for i in seen], boxes, size[1]),
        intrinsics(size),
    )


def intrinsics(size: tuple[int, int]) -> NDArray[np.float32]:
    """Camera matrix of an image of this height and width [px]."""
    height, width = size
    focal = FOCAL * width
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)


@lru_cache(maxsize=4)
def _rays(size: tuple[int, int]) -> Array:
    """Directions (right, up, forward) through the pixel centres, of length 1 along the optical axis, (3, H W)."""
    height, width = size
    focal = FOCAL * width
    x = np.broadcast_to((np.arange(width) + 0.5 - width / 2) / focal, size).ravel()
    y = np.broadcast_to((np.arange(height)[:, None] + 0.5 - height / 2) / focal, size).ravel()
    return np.stack([x, -np.cos(PITCH) * y - np.sin(PITCH), np.cos(PITCH) - np.sin(PITCH) * y])


def _to_camera(direction: Array) -> Array:
    """From room coordinates (right, up, forward) to camera coordinates x, y, z."""
    right, up, forward = direction
    cos, sin = np.cos(PITCH), np.sin(PITCH)
    return np.stack([right, -cos * up - sin * forward, cos * forward - sin * up])


def _draw_room(rng: Generator) -> _Room:
    yaw, depth, left, right = rng.uniform([-0.5, 4.0, 1.6, 1.6], [0.5, 8.0, 3.5, 3.5])
    height = rng.uniform(2.1, 2.7)
    cos, sin = np.cos(yaw), np.sin(yaw)
    normals = np.array([[0, 1, 0], [0, -1, 0], [-sin, 0, -cos], [cos, 0, -sin], [-cos, 0, sin]])
    return _Room(normals, np.array([EYE, height - EYE, depth, left, right]), height)


def _draw_solids(rng: Generator, room: _Room) -> list[Solid]:
    """Up to seven solids that stand inside the room and the view and do not overlap."""
    solids: list[Solid] = []
    for _ in range(rng.integers(4, 8)):
        for _ in range(8):
            solid = _draw_solid(rng)
            walls = room.normals[2:] @ np.array([solid.x, 0, solid.z]) + room.distances[2:]
            apart = all(np.hypot(solid.x - o.x, solid.z - o.z) > solid.reach + o.reach for o in solids)
            if apart and (walls > solid.reach).all():
                solids.append(solid)
                break
    return solids


def _draw_solid(rng: Generator) -> Solid:
    kind = KINDS[rng.integers(len(KINDS))]
    z = rng.uniform(2.0, 4.2)
    x = rng.uniform(-0.55, 0.55) * z / FOCAL
    half = rng.uniform(0.45, 0.7) * (0.8 if kind == "cylinder" else 1.0)
    low, high = {"box": (0.9, 1.7), "ball": (2.0, 2.0), "cylinder": (1.7, 2.8), "cone": (2.2, 3.0)}[kind]
    height = 2 * half if kind == "ball" else min(half * rng.uniform(low, high), 1.4)
    halves = (half, half * rng.uniform(0.7, 1.0)) if kind == "box" else (half, half)
    return Solid(kind, x, z, rng.uniform(0, np.pi), halves, height)


def _cast(rays: Array, room: _Room, solids: list[Solid]) -> tuple[Array, NDArray[np.int64]]:
    """Depth of each pixel [m], and the number of the surface it shows: the room's five planes, then the solids."""
    nearness = (-room.normals / room.distances[:, None]) @ rays  # 1 / depth; one is above 0, the camera is inside
    which = nearness.argmax(axis=0)
    depth = 1 / nearness.max(axis=0)
    right, up = rays[0] / rays[2], rays[1] / rays[2]
    for number, solid in enumerate(solids, start=5):
        front = solid.z - solid.reach
        beside = np.abs(right - solid.x / solid.z) < 1.3 * solid.reach / front
        # only rays through a screen rectangle that is sure to contain the solid
        near = np.flatnonzero(beside & (up > -EYE / front) & (up < (solid.height - EYE) / (solid.z + solid.reach)))
        found = meet(solid, EYE, *rays[:, near])
        closer = found < depth[near]
        depth[near[closer]] = found[closer]
        which[near[closer]] = number
    return depth, which


def _shade(
    points: Array, which: NDArray[np.int64], room: _Room, solids: list[Solid], materials: list[Material], rng: Generator
) -> tuple[Array, Array]:
    """Normals (right, up, forward) ``(3, N)`` and colours ``(N, 3)`` of points as seen from the camera."""
    normal, colour = room.normals.T[:, np.minimum(which, 4)], np.empty_like(points.T)
    for number, material in enumerate(materials):
        own = np.flatnonzero(which == number)
        x, h, z = points[0, own], points[1, own] + EYE, points[2, own]
        if number >= 5:
            normal[:, own], u, v = surface(solids[number - 5], x, h, z)
        else:
            along = room.normals[number]
            u, v = (x, z) if number < 2 else (x * along[2] - z * along[0], h)
        colour[own] = paint(material, u, v)
    return normal, colour * _light(points, normal, which == 0, room, solids, rng)[:, None]


def _light(
    points: Array, normal: Array, floor: NDArray[np.bool_], room: _Room, solids: list[Solid], rng: Generator
) -> Array:
    """Brightness from one lamp and ambient light; the floor is darker around each solid."""
    lamp = np.array([rng.uniform(-1.5, 1.5), room.height - EYE - 0.2, rng.uniform(0.5, 3.0)])
    ambient, power = rng.uniform(0.35, 0.5), rng.uniform(0.6, 0.9)
    towards = lamp[:, None] - points
    distance = np.sqrt((towards**2).sum(axis=0))
    lit = np.clip((towards * normal).sum(axis=0) / distance, 0, None) * np.clip(1.6 - 0.13 * distance, 0.3, None)
    light: Array = ambient + power * lit
    x, z = points[0, floor], points[2, floor]
    for solid in solids:
        away = np.hypot(x - solid.x, z - solid.z) / solid.reach
        light[floor] *= 1 - 0.45 * np.clip(1.5 - away, 0, 1)
    return light


def _visible(which: NDArray[np.int64], count: int) -> list[int]:
    """Numbers of the solids that show enough pixels."""
    pixels = np.bincount(which.ravel(), minlength=count + 5)[5:]
    return [i for i in range(count) if pixels[i] >= max(_VISIBLE * which.size, 4)]


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
