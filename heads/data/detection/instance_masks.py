"""Instance masks: from COCO's polygons and run-length encoding (RLE) to pixels, and back."""

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
"""How far a box or a mask may extend beyond its image [px]: sizes and positions are rounded separately."""

Extent = tuple[float, float, float, float]
"""Left, top, right and bottom of a mask [px]."""

_FEWEST = 6  # numbers in a polygon: three points
_SMALL = 4.0  # [px2]; larger polygons cover a pixel, no need to rasterise them
# numbers of compressed RLE, see ``_decompressed``: up to six characters with the continuation bit, then one without
_NUMBERS = re.compile("(?:[P-o]{0,6}[0-O])+")
_AT_ONCE = 10_000  # RLE masks per call; pycocotools holds each of them in memory twice
_POLYGONS = "expected a list of polygons, each [x1, y1, x2, y2, x3, y3, ...] in pixels, or RLE"


def instance_mask(annotation: Entry, height: int, width: int) -> Tensor:
    """The pixels of an instance, bool ``(H, W)``; pycocotools rasterises polygons.

    Args:
        annotation: A COCO annotation with a ``segmentation``: polygons, whose union is taken, or RLE, plain or
            compressed.
        height: Of the image [px].
        width: Of the image [px].

    Raises:
        ValueError: The segmentation is missing or invalid, or its size differs from the image's.
    """
    segmentation = annotation.get("segmentation")
    problem = mask_problem(segmentation, height, width)
    if problem:
        raise ValueError(f"Annotation {annotation.get('id')} {problem}.")
    runs = _runs_of(segmentation, height, width)
    # runs alternate, background first, down the columns: build the transposed mask (W, H), then transpose it
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height)
    return torch.from_numpy(np.ascontiguousarray(columns.T))


def encode(mask: Tensor) -> dict[str, Any]:
    """A mask as compressed RLE: ``size`` (height, width) and ``counts``, a str for json.

    Args:
        mask: Bool ``(H, W)``.

    Raises:
        ValueError: The mask has another type or shape.
    """
    if mask.dtype != torch.bool or mask.ndim != 2:
        raise ValueError(f"The mask is {mask.dtype} {tuple(mask.shape)}; expected bool (height, width).")
    encoded = rle.encode(np.asfortranarray(mask.cpu().numpy(), dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def mask_area(segmentation: Any, height: int, width: int) -> float:
    """Number of pixels in a valid segmentation [px2]."""
    return float(sum(_runs_of(segmentation, height, width)[1::2]))


def mask_problem(segmentation: Any, height: int, width: int) -> str | None:
    """The problem with a segmentation, to append to the annotation's name in a message; ``None`` if it is valid.

    Args:
        segmentation: The annotation's value for this key.
        height: Of the image [px].
        width: Of the image [px].
    """
    return inspect_mask(segmentation, height, width)[0]


def inspect_mask(segmentation: Any, height: int, width: int) -> tuple[str | None, Extent | None]:
    """The problem with a segmentation, as in :func:`mask_problem`, and the extent of valid polygons.

    The extent is ``None`` for RLE: :func:`rle_extents` finds it, fast, for many masks at once.

    Args:
        segmentation: The annotation's value for this key.
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
    """Extents of RLE masks, fast; ``None`` for masks that cannot be read.

    pycocotools decodes compressed strings without checks, so only strings of well-formed numbers reach it. It counts an
    empty run as one or more pixels, so an extent may be too large: confirm those that matter with :func:`rle_extent`.

    Args:
        segmentations: Segmentations that are dicts, not checked yet.
        sizes: Height and width of each mask's image [px].
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
    """Exact extent of an RLE mask; ``None`` if it is invalid or has no pixel.

    Args:
        segmentation: RLE, compressed or not.
        height: Of the image [px].
        width: Of the image [px].
    """
    if _rle_problem(segmentation, height, width):
        return None
    runs = np.array(_runs(segmentation["counts"]), np.int64)
    # odd runs are the mask; pixel n of an image is in column n // height, row n % height
    behind = np.cumsum(runs)[1::2]
    seen = runs[1::2] > 0  # empty runs have no first and last pixel
    first, last = (behind - runs[1::2])[seen], behind[seen] - 1
    if not len(first):
        return None
    left, right = first[0] // height, last[-1] // height + 1
    if (first // height != last // height).any():  # a run across two columns touches both the last row and row 0
        return float(left), 0.0, float(right), float(height)
    return float(left), float((first % height).min()), float(right), float((last % height).max() + 1)


def without_pixel(segmentation: Any, height: int, width: int) -> bool:
    """Whether a valid segmentation covers no pixel, as with polygons of repeated or collinear points.

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
    """Whether a list holds finite numbers only.

    The sum of the list is faster than a loop: infinity and NaN carry over to it, and other types raise.
    """
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


def _inspect_polygon(polygon: Any, height: int, width: int) -> tuple[str, Extent | None]:
    """The problem with a polygon, or an empty string and its extent."""
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
    """Area of a polygon [px2], by the shoelace formula; parts with the opposite orientation count as negative."""
    xs, ys = polygon[::2], polygon[1::2]
    heights = map(sub, ys[1:] + ys[:1], ys[-1:] + ys[:-1])
    return float(abs(sum(map(mul, xs, heights)))) / 2


def _rle_problem(segmentation: dict[str, Any], height: int, width: int) -> str | None:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size not in ([height, width], (height, width)):
        swapped = ", which has width before height" if size == [width, height] else ""
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
    """Run lengths of a valid segmentation."""
    if isinstance(segmentation, list):
        segmentation = rle.merge(rle.frPyObjects(segmentation, height, width))
    return _runs(segmentation["counts"]) or []


def _runs(counts: Any) -> list[int] | None:
    """Run lengths down the columns, starting with background; ``None`` if the counts are invalid."""
    if isinstance(counts, list):
        return counts if all(type(n) is int and n >= 0 for n in counts) else None
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")  # non-ASCII bytes are refused below
    return _decompressed(counts) if isinstance(counts, bytes) else None


def _decompressed(counts: bytes) -> list[int] | None:
    """Run lengths of a compressed string; ``None`` if it is invalid.

    pycocotools does not expose them, nor does it compare their sum with the size: it leaves missing pixels
    uninitialised.

    Each character minus "0" is six bits: five bits of a number, lowest group first, and a continuation bit (32). The
    top bit of a number's last group is its sign. From the fourth number on, a number is the difference to the run two
    before it, the previous run of the same kind.

    Source: ``rleFrString`` in maskApi.c of cocodataset/cocoapi @ 8c9bcc3
    """
    bits = np.frombuffer(counts, np.uint8).astype(np.int64) - ord("0")
    if not len(bits) or bits.min() < 0 or bits.max() > 63 or bits[-1] & 32:
        return None
    ends = np.flatnonzero(bits & 32 == 0)  # last character of each number
    lengths = np.diff(ends, prepend=-1)
    if lengths.max() > 7:  # more than 32 bits
        return None
    starts = ends - lengths + 1
    places = np.arange(len(bits)) - np.repeat(starts, lengths)  # index of each group within its number
    # sum the shifted groups; a set sign bit means two's complement: subtract 2 ** (5 * groups)
    numbers = np.add.reduceat((bits & 31) << 5 * places, starts) - ((bits[ends] >> 4) << 5 * lengths)
    for first in (1, 2):  # undo the differences: run 0 is stored as it is, all later ones follow from runs 1 and 2
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers.tolist() if numbers.min() >= 0 else None
