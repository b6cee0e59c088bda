"""Checks of object annotations before training and scoring: ids that exist, boxes and masks inside their image."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, NoReturn

from .annotations import Entry
from .instance_masks import ROUNDING, Extent, finite_numbers, inspect_mask, mask_area

Invalid = tuple[Entry, str]
"""An annotation with an invalid box, area or mask, and the problem."""

LONGEST = 1_000_000
"""Longest side of an image [px]; no image is larger, and no mask of that size fits into memory."""


def refuse(source: Path | str, problems: Sequence[str], entries: str, remedy: str = "") -> NoReturn:
    """Raise an error that names the first problem and counts the others.

    Args:
        source: The file or the folder.
        problems: One for each invalid entry, at least one: its name, what it has, and what was expected.
        entries: Plural noun for the entries, such as annotations.
        remedy: What to do, as a sentence.
    """
    more = f"Other invalid {entries}: {len(problems) - 1}." if len(problems) > 1 else ""
    raise ValueError(" ".join(part for part in (f"{source}: {problems[0]}.", remedy, more) if part))


def reference_problems(rows: list[Any], images: Mapping[int, Entry], categories: set[int]) -> list[str]:
    """Find annotations with missing, duplicate or unknown ids, or with an ``iscrowd`` other than 0 and 1.

    Args:
        rows: The file's list of annotations.
        images: The images by id.
        categories: Ids of the categories.
    """
    seen: set[int] = set()
    problems = []
    for place, row in enumerate(rows):
        problem = _reference_problem(row, seen, images, categories)
        if problem:
            problems.append(f"{name_of(row, images, place)} {problem}")
        else:
            seen.add(row["id"])
    return problems


def _reference_problem(row: Any, seen: set[int], images: Mapping[int, Entry], categories: set[int]) -> str | None:
    if not isinstance(row, dict):
        return f"is {shortened(row)}; expected an object with id, image_id, category_id and bbox"
    wrong = next((key for key in ("id", "image_id", "category_id") if type(row.get(key)) is not int), None)
    if wrong:
        got = f"{wrong} {shortened(row[wrong])}" if wrong in row else f"no {wrong}"
        return f"has {got}; expected a whole number"
    if row["id"] in seen:
        return "has the id of another annotation; expected each id once"
    if row["image_id"] not in images:
        return "has an image_id that is not in images; expected the id of one of them"
    if row["category_id"] not in categories:
        return f"has category_id {row['category_id']}, which is not in categories; expected one of {_few(categories)}"
    if row.get("iscrowd", 0) not in (0, 1):
        return f"has iscrowd {shortened(row['iscrowd'])}; expected 0 or 1"
    return None


def invalid_annotations(
    rows: Iterable[Entry], images: Mapping[int, Entry], *, masks: bool, extents: list[Extent | None] | None = None
) -> list[Invalid]:
    """Find annotations with an invalid box, area or mask.

    Args:
        rows: Annotations with valid ids.
        images: The images by id, with ``width`` and ``height``.
        masks: Whether each annotation needs a segmentation; if not, segmentations are not checked.
        extents: List to append the extent of each annotation's polygons to, a by-product of the checks; ``None`` for
            invalid polygons and for RLE.
    """
    found = []
    for row in rows:
        image = images[row["image_id"]]
        problem = _box_problem(row.get("bbox"), image) or _area_problem(row.get("area"))
        segmentation, extent = row.get("segmentation"), None
        if masks or (extents is not None and isinstance(segmentation, list) and segmentation):
            mask, extent = inspect_mask(segmentation, image["height"], image["width"])
            problem = problem or (mask if masks else None)
        if problem:
            found.append((row, problem))
        if extents is not None:
            extents.append(extent)
    return found


def complete(row: Entry, image: Entry, *, masks: bool) -> None:
    """Fill in absent keys: ``iscrowd`` 0, and ``area`` from the mask, or from the box without masks."""
    row["iscrowd"] = int(row.get("iscrowd", 0))
    if row.get("area") is None:
        box = row["bbox"][2] * row["bbox"][3]
        row["area"] = mask_area(row["segmentation"], image["height"], image["width"]) if masks else box


def name_of(row: Any, images: Mapping[int, Entry], place: int | None = None) -> str:
    """Name of an annotation in messages: its id and that of its image, or its index if it has no id."""
    if not isinstance(row, dict) or type(row.get("id")) is not int:
        return f"annotations[{place}]"
    image = images.get(row["image_id"]) if type(row.get("image_id")) is int else None
    file_name = f", {image['file_name']}," if image else ""
    return f"annotation {row['id']} of image {shortened(row.get('image_id'))}{file_name}"


def meant_as_corners(
    rows: Sequence[Entry], invalid: Sequence[Invalid], images: Mapping[int, Entry]
) -> tuple[str, bool]:
    """Check whether the boxes are [left, top, right, bottom] by mistake.

    Args:
        rows: All annotations of the file.
        invalid: The invalid ones among them.
        images: The images by id.

    Returns:
        A hint, empty unless all boxes that extend beyond their image would be valid as corners; and whether it is
        certain: all other boxes would be valid as corners, too.
    """
    wrong = [row for row, _ in invalid if is_box(row.get("bbox")) and _leaves(row, images)]
    if not wrong or not all(_right_as_corners(row, images) for row in wrong):
        return "", False
    passed = {row["id"] for row, _ in invalid}
    certain = all(_right_as_corners(row, images) for row in rows if row["id"] not in passed)
    others = " and no other box invalid" if certain else ""
    left, top, right, bottom = wrong[0]["bbox"]
    text = (
        f"Read as [left, top, right, bottom], all boxes that extend beyond their image would be valid{others}. "
        "If that is their format, write [left, top, right - left, bottom - top], here "
        f"{[left, top, right - left, bottom - top]}."
    )
    return text, certain


def _box_problem(box: Any, image: Entry) -> str | None:
    if not is_box(box):
        return f"has bbox {shortened(box)}; expected four finite numbers, [left, top, width, height] in pixels"
    left, top, width, height = box
    if width <= 0 or height <= 0:
        return f"has bbox {box}; expected a width and a height above 0, in [left, top, width, height]"
    if not _inside(left, top, left + width, top + height, image):
        return (
            f"has bbox {box}, which extends beyond its image of {image['width']} x {image['height']} px; expected "
            "[left, top, width, height] inside it"
        )
    return None


def is_box(box: Any) -> bool:
    """Whether a value is a list of four finite numbers."""
    return isinstance(box, list) and len(box) == 4 and finite_numbers(box)


def _inside(left: float, top: float, right: float, bottom: float, image: Entry) -> bool:
    """Whether a box overlaps its image and lies inside it up to rounding."""
    width, height = image["width"], image["height"]
    reaches = min(right, width) > max(left, 0) and min(bottom, height) > max(top, 0)
    within = min(left, top) >= -ROUNDING and right <= width + ROUNDING and bottom <= height + ROUNDING
    return reaches and within


def _leaves(row: Entry, images: Mapping[int, Entry]) -> bool:
    left, top, width, height = row["bbox"]
    return width > 0 and height > 0 and not _inside(left, top, left + width, top + height, images[row["image_id"]])


def _right_as_corners(row: Entry, images: Mapping[int, Entry]) -> bool:
    box: Any = row.get("bbox")
    if not is_box(box):
        return False
    left, top, right, bottom = box
    return right > left and bottom > top and _inside(left, top, right, bottom, images[row["image_id"]])


def _area_problem(area: Any) -> str | None:
    if area is None or (type(area) in (int, float) and finite_numbers([area]) and area > 0):
        return None
    return f"has area {shortened(area)}; expected a number of pixels above 0, or no area"


def _few(ids: set[int]) -> str:
    listed = sorted(ids)
    return ", ".join(map(str, listed[:10])) + (f", ... ({len(listed)} of them)" if len(listed) > 10 else "")
