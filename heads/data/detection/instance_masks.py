"""Masks of instances: COCO's polygons and run lengths to pixels, and back."""

import math
import re
from operator import mul, sub
from reprlib import repr as shortened
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor

from .annotations import Entry

ROUNDING = 1.0
"""How far a box or a mask may lie beyond its image [px]: sizes and places are rounded apart from each other."""

Extent = tuple[float, float, float, float]
"""Left, top, right and bottom of a mask [px]."""

_FEWEST = 6  # numbers of a polygon: three points
_SMALL = 4.0  # [px2]; larger polygons have a pixel and need not be drawn to know it
_NUMBERS = re.compile("(?:[P-o]{0,6}[0-O])+")  # of compressed RLE, see ``_decompressed``
_AT_ONCE = 10_000  # RLE that pycocotools has in memory twice
_POLYGONS = "expected a list of polygons, each [x1, y1, x2, y2, x3, y3, ...] in pixels, or RLE"


def instance_mask(annotation: Entry, height: int, width: int) -> Tensor:
    """The pixels of an instance, bool ``(H, W)``; polygons are drawn by pycocotools.

    Args:
        annotation: An annotation of COCO with a ``segmentation``: polygons, whose union is taken, or RLE, compressed
            or not.
        height: Of the image [px].
        width: Of the image [px].

    Raises:
        ValueError: The segmentation is missing or wrong, or of another size than the image.
    """
    segmentation = annotation.get("segmentation")
    problem = mask_problem(segmentation, height, width)
    if problem:
        raise ValueError(f"Annotation {annotation.get('id')} {problem}.")
    runs = _runs_of(segmentation, height, width)
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height)
    return torch.from_numpy(np.ascontiguousarray(columns.T))


def encode(mask: Tensor) -> dict[str, Any]:
    """A mask as compressed RLE: ``size`` (height, width) and ``counts``, a str as json holds it.

    Args:
        mask: Bool ``(H, W)``.

    Raises:
        ValueError: It has another type or shape.
    """
    if mask.dtype != torch.bool or mask.ndim != 2:
        raise ValueError(f"The mask is {mask.dtype} {tuple(mask.shape)}; expected bool (height, width).")
    encoded = rle.encode(np.asfortranarray(mask.cpu().numpy(), dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def mask_area(segmentation: Any, height: int, width: int) -> float:
    """Number of pixels that a correct segmentation covers [px2]."""
    return float(sum(_runs_of(segmentation, height, width)[1::2]))


def mask_problem(segmentation: Any, height: int, width: int) -> str | None:
    """What is wrong with a segmentation, to follow the name of its annotation; ``None`` if it is right.

    Args:
        segmentation: What an annotation has under this key.
        height: Of the image [px].
        width: Of the image [px].
    """
    return inspect_mask(segmentation, height, width)[0]


def inspect_mask(segmentation: Any, height: int, width: int) -> tuple[str | None, Extent | None]:
    """What is wrong with a segmentation, as :func:`mask_problem` says it, and the extent of polygons that are right.

    RLE has its extent from :func:`rle_extents`, which is fast for many at once.

    Args:
        segmentation: What an annotation has under this key.
        height: Of the image [px].
        width: Of the image [px].
    """
    if segmentation is None:
        return f"has no segmentation; {_POLYGONS}", None
    if isinstance(segmentation, dict):
        return _rle_problem(segmentation, height, width), None
    if not isinstance(segmentation, list) or not segmentation:
        return f"has segmentation {shortened(segmentation)}; {_POLYGONS}", None
    extents = []
    for number, polygon in enumerate(segmentation, 1):
        problem, extent = _inspect_polygon(polygon, height, width)
        if extent is None:
            return f"has a segmentation whose polygon {number} {problem}", None
        extents.append(extent)
    if len(extents) == 1:
        return None, extents[0]
    lefts, tops, rights, bottoms = zip(*extents, strict=True)
    return None, (min(lefts), min(tops), max(rights), max(bottoms))


def rle_extents(segmentations: list[dict[str, Any]], sizes: list[tuple[int, int]]) -> list[Extent | None]:
    """Extents of RLE, fast; ``None`` for what cannot be read.

    pycocotools reads compressed strings, once it is sure that their characters are safe to read. It takes an empty run
    for a pixel or more, so look at what matters by :func:`rle_extent` again.

    Args:
        segmentations: Whatever annotations have, if it is a dict.
        sizes: Height and width of the image of each [px].
    """
    found: list[Extent | None] = [None] * len(segmentations)
    safe = []
    for place, (segmentation, size) in enumerate(zip(segmentations, sizes, strict=True)):
        counts = segmentation.get("counts")
        if isinstance(counts, str) and segmentation.get("size") == list(size) and _NUMBERS.fullmatch(counts):
            safe.append(place)
        elif isinstance(counts, list):
            found[place] = rle_extent(segmentation, *size)
    for start in range(0, len(safe), _AT_ONCE):
        part = safe[start : start + _AT_ONCE]
        boxes = rle.toBbox([segmentations[place] for place in part])
        boxes[:, 2:] += boxes[:, :2]
        for place, box in zip(part, boxes.tolist(), strict=True):
            found[place] = tuple(box)
    return found


def rle_extent(segmentation: dict[str, Any], height: int, width: int) -> Extent | None:
    """Extent of the pixels of RLE, exact; ``None`` where it is wrong or has no pixel.

    Args:
        segmentation: RLE, compressed or not.
        height: Of the image [px].
        width: Of the image [px].
    """
    if _rle_problem(segmentation, height, width):
        return None
    runs = np.array(_runs(segmentation["counts"]), np.int64)
    behind = np.cumsum(runs)[1::2]
    seen = runs[1::2] > 0
    first, last = (behind - runs[1::2])[seen], behind[seen] - 1
    if not len(first):
        return None
    left, right = first[0] // height, last[-1] // height + 1
    if (first // height != last // height).any():  # a run from one column into the next one spans all rows
        return float(left), 0.0, float(right), float(height)
    return float(left), float((first % height).min()), float(right), float((last % height).max() + 1)


def without_pixel(segmentation: Any, height: int, width: int) -> bool:
    """Whether a correct segmentation covers no pixel, as polygons of repeated points or of points on a line do.

    Args:
        segmentation: Polygons or RLE.
        height: Of the image [px].
        width: Of the image [px].
    """
    if isinstance(segmentation, list):
        large = sum(map(_polygon_area, segmentation)) > _SMALL
        return not large and mask_area(segmentation, height, width) == 0
    counts = segmentation["counts"]
    return not sum(counts[1::2]) if isinstance(counts, list) else int(rle.area(segmentation)) == 0


def finite_numbers(values: list[Any]) -> bool:
    """Whether a list holds finite numbers only; its sum says so faster than a look at each."""
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


def _inspect_polygon(polygon: Any, height: int, width: int) -> tuple[str, Extent | None]:
    """What is wrong with a polygon, or nothing and its extent."""
    if not isinstance(polygon, list) or not finite_numbers(polygon):
        return f"is {shortened(polygon)}; {_POLYGONS}", None
    if len(polygon) < _FEWEST or len(polygon) % 2:
        return f"has {len(polygon)} numbers; expected x and y of at least 3 points", None
    xs, ys = polygon[::2], polygon[1::2]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    if left < -ROUNDING or top < -ROUNDING or right > width + ROUNDING or bottom > height + ROUNDING:
        return (
            f"spans x from {left} to {right} and y from {top} to {bottom}; expected points inside the image of "
            f"{width} x {height} px"
        ), None
    return "", (left, top, right, bottom)


def _polygon_area(polygon: list[float]) -> float:
    """Area of a polygon [px2], by the shoelace formula; parts that run the other way round are subtracted."""
    xs, ys = polygon[::2], polygon[1::2]
    heights = map(sub, ys[1:] + ys[:1], ys[-1:] + ys[:-1])
    return float(abs(sum(map(mul, xs, heights)))) / 2


def _rle_problem(segmentation: dict[str, Any], height: int, width: int) -> str | None:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size not in ([height, width], (height, width)):
        swapped = ", which is width before height" if size == [width, height] else ""
        return f"has RLE of size {shortened(size)}{swapped}; expected its image's height and width, {[height, width]}"
    runs = _runs(counts)
    if runs is None:
        return (
            f"has RLE counts {shortened(counts)}; expected run lengths, as a list of whole numbers or as COCO's "
            "compressed string"
        )
    if sum(runs) != height * width:
        return f"has RLE counts of {sum(runs)} pixels; expected {height * width}, the {height} x {width} of its size"
    return None


def _runs_of(segmentation: Any, height: int, width: int) -> list[int]:
    """Run lengths of a correct segmentation."""
    if isinstance(segmentation, list):
        segmentation = rle.merge(rle.frPyObjects(segmentation, height, width))
    return _runs(segmentation["counts"]) or []


def _runs(counts: Any) -> list[int] | None:
    """Run lengths down the columns, the first one outside of the mask; ``None`` if they are none."""
    if isinstance(counts, list):
        return counts if all(type(n) is int and n >= 0 for n in counts) else None
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")  # what is not ASCII is refused below
    return _decompressed(counts) if isinstance(counts, bytes) else None


def _decompressed(counts: bytes) -> list[int] | None:
    """Run lengths of a compressed string; ``None`` if it is none.

    pycocotools keeps them to itself, and does not compare their sum with the size: pixels that they leave out hold
    what was in memory before.

    A number is a sequence of characters from "0" on, of six bits each: five of the number, the lowest first, and one
    that says that it goes on. The highest of the last five is the sign. From the fourth number on it is the difference
    to the last but one.

    Source: ``rleFrString`` in maskApi.c of cocodataset/cocoapi @ 8c9bcc3
    """
    bits = np.frombuffer(counts, np.uint8).astype(np.int64) - ord("0")
    if not len(bits) or bits.min() < 0 or bits.max() > 63 or bits[-1] & 32:
        return None
    ends = np.flatnonzero(bits & 32 == 0)
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > 7:  # more than 32 bits
        return None
    starts = ends - lengths + 1
    places = np.arange(len(bits)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((bits & 31) << 5 * places, starts) - ((bits[ends] >> 4) << 5 * lengths)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers.tolist() if numbers.min() >= 0 else None
