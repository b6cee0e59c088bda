"""Captions of generated scenes that are true of the image."""

from itertools import pairwise

from numpy.typing import NDArray

from .materials import Material
from .solids import Solid


def describe(solids: list[Solid], materials: list[Material], boxes: NDArray, width: int) -> str:  # type: ignore[type-arg]
    """Name the visible solids with their colours and textures, and the spatial relations of neighbours.

    Only solids with a unique description are related to others. "In front of" and "behind" relate solids whose boxes
    overlap horizontally and whose centres are at least half a metre apart along the viewing direction; "left of" and
    "right of" relate those whose boxes do not overlap horizontally.

    Args:
        solids: The visible solids.
        materials: Their materials.
        boxes: Their boxes [px], ``(N, 4)``.
        width: Width of the image [px].
    """
    if not solids:
        return "An empty room."
    names = [_name(s, m) for s, m in zip(solids, materials, strict=True)]
    parts = [f"A room with {_list([_article(n) for n in names])}."]
    order = sorted((i for i, name in enumerate(names) if names.count(name) == 1), key=lambda i: boxes[i, 0])
    for one, other in pairwise(order):
        if relation := _relation(solids[one], solids[other], boxes[one], boxes[other]):
            parts.append(f"The {names[one]} is {relation} the {names[other]}.")
    return " ".join(parts)


def _name(solid: Solid, material: Material) -> str:
    texture = "" if material.texture == "plain" else f"{material.texture} "
    return f"{texture}{material.colour} {solid.kind}"


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _relation(one: Solid, other: Solid, box: NDArray, other_box: NDArray) -> str | None:  # type: ignore[type-arg]
    if box[2] <= other_box[0]:
        return "left of"
    if other_box[2] <= box[0]:
        return "right of"
    if abs(one.z - other.z) < 0.5:
        return None
    return "in front of" if one.z < other.z else "behind"
