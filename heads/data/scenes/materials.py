"""The materials of generated scenes: named colours, textures, and their priors for each class.

The priors overlap: every class occurs in every colour and texture, so that neither determines the class. They differ
about as much as those of real objects.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from .solids import Array

COLOURS = {
    "red": (0.80, 0.15, 0.13),
    "orange": (0.88, 0.48, 0.12),
    "yellow": (0.88, 0.80, 0.20),
    "green": (0.20, 0.60, 0.22),
    "blue": (0.15, 0.32, 0.78),
    "purple": (0.52, 0.22, 0.65),
    "brown": (0.45, 0.30, 0.18),
    "grey": (0.52, 0.52, 0.54),
    "white": (0.90, 0.89, 0.86),
}
TEXTURES = ("plain", "striped", "checked", "speckled")

# Relative frequency of each colour and texture, in the orders above, and the mean length of the texture [m].
_PRIORS: dict[str, tuple[tuple[float, ...], tuple[float, ...], float]] = {
    "box": ((0.5, 8, 0.5, 0.5, 0.5, 1, 12, 1, 0.5), (3, 1, 8, 1), 0.26),
    "ball": ((12, 1, 10, 0.5, 0.5, 1, 0.5, 0.5, 1), (8, 2, 1, 1), 0.34),
    "cylinder": ((0.5, 0.5, 0.5, 10, 12, 1, 0.5, 1, 0.5), (2, 8, 1, 1), 0.24),
    "cone": ((0.5, 3, 0.5, 0.5, 0.5, 14, 0.5, 3, 0.5), (2, 1, 1, 8), 0.24),
    "floor": ((0.5, 1, 0.5, 1, 0.5, 0.5, 8, 8, 2), (2, 2, 4, 2), 0.50),
    "wall": ((0.5, 0.5, 4, 1, 4, 1, 0.5, 3, 8), (5, 3, 1, 1), 0.40),
    "ceiling": ((0.5, 0.5, 1, 0.5, 1, 0.5, 0.5, 4, 9), (8, 1, 1, 2), 0.30),
}


@dataclass(frozen=True)
class Material:
    """A named colour and a texture in two shades of it.

    Attributes:
        colour: Name of the colour.
        texture: Name of the texture.
        shades: Two colours in [0, 1], ``(2, 3)``; a plain material uses only the first.
        length: Size of the texture [m].
        turn: Angle of the texture [rad].
        cells: Random numbers in [0, 1) for speckles, ``(16, 16)``.
    """

    colour: str
    texture: str
    shades: Array
    length: float
    turn: float
    cells: Array


def draw_material(name: str, rng: Generator) -> Material:
    """Draw a material from the prior of this class."""
    colours, textures, length = _PRIORS[name]
    colour = list(COLOURS)[_choose(colours, rng)]
    texture = TEXTURES[_choose(textures, rng)]
    first = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 0.04, 3), 0.03, 0.97)
    # a darker shade; of a dark colour a lighter one
    second = first * rng.uniform(0.5, 0.75) if first.mean() > 0.35 else first + (1 - first) * rng.uniform(0.25, 0.45)
    length *= float(np.exp(rng.normal(0, 0.25)))
    return Material(colour, texture, np.stack([first, second]), length, rng.uniform(-0.3, 0.3), rng.random((16, 16)))


def _choose(weights: tuple[float, ...], rng: Generator) -> int:
    return int(np.searchsorted(np.cumsum(weights) / sum(weights), rng.random(), side="right"))


def paint(material: Material, u: Array, v: Array) -> Array:
    """Colours ``(N, 3)`` at points on a surface.

    Args:
        material: The material.
        u: First surface coordinate [m], ``(N,)``.
        v: Second surface coordinate [m], ``(N,)``.
    """
    cos, sin = np.cos(material.turn) / material.length, np.sin(material.turn) / material.length
    a, b = cos * u + sin * v, cos * v - sin * u
    if material.texture == "plain":
        second = np.zeros(len(u), np.int64)
    elif material.texture == "striped":
        second = np.floor(2 * a).astype(np.int64) & 1
    elif material.texture == "checked":
        second = (np.floor(a) + np.floor(b)).astype(np.int64) & 1
    else:
        # & 15 repeats the 16 x 16 cells, also at negative coordinates
        row, column = np.floor(3 * a).astype(np.int64) & 15, np.floor(3 * b).astype(np.int64) & 15
        second = (material.cells[row, column] < 0.35).astype(np.int64)
    painted: Array = material.shades[second]
    return painted
