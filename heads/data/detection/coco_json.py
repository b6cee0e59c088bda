"""Read and check COCO's and LVIS's object annotations from json."""

import json
import posixpath
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from siglip2_backbone.json_files import parse_json

from .annotation_checks import (
    LONGEST,
    Invalid,
    complete,
    invalid_annotations,
    meant_as_corners,
    name_of,
    reference_problems,
    refuse,
)
from .annotations import Annotations, Entry
from .boxes_and_masks import BoxesAndMasks, empty_masks
from .instance_masks import Extent

_LISTS = ("images", "annotations", "categories")
_EXPECTED = "expected COCO's object annotations, a json object with the lists images, annotations and categories"
_FREQUENCIES = ("r", "c", "f")  # LVIS's rare, common, frequent


def read_coco(
    path: Path, *, skip_invalid: bool = False, masks: bool = False, lvis: bool = False, as_published: bool = False
) -> Annotations:
    """Read a json like COCO's ``instances_val2017.json``.

    Boxes and masks may extend 1 px beyond their image because of rounding, and are not clipped. ``iscrowd`` defaults to
    0, and ``area`` to that of the mask, or of the box without ``masks``. An annotation with id 0 gets the next free
    id, because pycocotools takes 0 for no match and would count a detection of it as a false positive. An image without
    ``file_name`` gets the last two parts of its ``coco_url``, as LVIS v1 intends.

    If an object has a valid mask, its box must match the extent of the mask, to within 3 px plus a twentieth of the
    mask's side; crowds are not compared. If most boxes of a file fail, the file is refused: its boxes have another
    format.

    Args:
        path: The file.
        skip_invalid: Skip annotations with an invalid box, area or mask, and list them in ``skipped``. COCO's own
            train2017 has two (ids 918 and 2206849, of height 0).
        masks: Require a ``segmentation`` that covers a pixel for each annotation; if not set, invalid
            segmentations are kept.
        lvis: Require what LVIS's federated scoring needs: ``neg_category_ids`` and ``not_exhaustive_category_ids`` of
            each image, and ``frequency`` of each category.
        as_published: The file belongs to a public dataset. Single boxes that do not match their masks, and masks
            without a pixel, are kept, so that scores stay comparable.

    Raises:
        ValueError: The file is missing, damaged or of another kind; an id is missing, duplicate or unknown; a file name
            leaves the image folder or occurs twice; a box, an area or a mask is invalid; or most boxes do not match
            their masks.

    Source: https://cocodataset.org/#format-data; https://www.lvisdataset.org/dataset
    """
    content = _read_object(path)
    categories = sorted(_categories(path, content["categories"], lvis=lvis), key=lambda category: category["id"])
    ids = {category["id"] for category in categories}
    images = _images(path, content["images"], ids if lvis else None)
    rows = content["annotations"]
    by_id = {image["id"]: image for image in images}
    wrong = reference_problems(rows, by_id, ids)
    if wrong:
        refuse(path, wrong, "annotations", "Correct it, or leave the annotation out.")
    options = {"skip_invalid": skip_invalid, "masks": masks, "as_published": as_published}
    kept, skipped = _valid(path, rows, by_id, **options)
    for row in kept:
        complete(row, by_id[row["image_id"]], masks=masks)
        if row["id"] == 0:
            row["id"] = max(other["id"] for other in rows) + 1
    return Annotations(str(path), images, categories, kept, skipped)


def _valid(
    path: Path, rows: list[Entry], images: dict[int, Entry], *, skip_invalid: bool, masks: bool, as_published: bool
) -> tuple[list[Entry], list[str]]:
    """The valid annotations, and a line about each invalid one."""
    invalid = _invalid(path, rows, images, masks=masks, as_published=as_published)
    lines = [f"{name_of(row, images)} {problem}" for row, problem in invalid]
    hint, certain = meant_as_corners(rows, invalid, images)
    if invalid and (certain or not skip_invalid):
        refuse(path, lines, "annotations", hint or "Correct it, leave it out, or set skip_invalid to skip it.")
    wrong = {row["id"] for row, _ in invalid}
    kept = [row for row in rows if row["id"] not in wrong]
    if invalid and not kept:
        refuse(path, lines, "annotations", "No valid annotation is left.")
    if kept and all(max(row["bbox"]) <= 1 for row in kept):
        relative = f"{name_of(kept[0], images)} has bbox {kept[0]['bbox']}, and no box has a number above 1"
        refuse(path, [f"{relative}; expected pixels"], "", "Multiply the boxes by the width and height of their image.")
    return kept, lines


def _invalid(
    path: Path, rows: list[Entry], images: dict[int, Entry], *, masks: bool, as_published: bool
) -> list[Invalid]:
    """Annotations that are invalid by themselves, or whose box does not match the mask.

    Raises:
        ValueError: Most boxes of the file do not match their masks.
    """
    extents: list[Extent | None] = []
    invalid = invalid_annotations(rows, images, masks=masks, extents=extents)
    both = BoxesAndMasks(rows, images, extents)
    if both.most:
        refuse(path, both.lines(), "annotations", both.hint())
    if as_published:
        return invalid
    wrong = {row["id"] for row, _ in invalid}
    if masks:
        empty = empty_masks([row for row in rows if row["id"] not in wrong], images)
        invalid += empty
        wrong |= {row["id"] for row, _ in empty}
    return invalid + [(row, problem) for row, problem in both.elsewhere if row["id"] not in wrong]


def _read_object(path: Path) -> dict[str, Any]:
    """The content of the file; errors name the known kinds of other files."""
    content = _read_json(path)
    if isinstance(content, list):
        scores = content and isinstance(content[0], dict) and "score" in content[0]
        kind = "results, a list of boxes with scores" if scores else "a list"
        raise ValueError(f"{path} holds {kind}; {_EXPECTED}. Pass the ground-truth file.")
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {shortened(content)}; {_EXPECTED}.")
    annotations = content.get("annotations")
    first = annotations[0] if isinstance(annotations, list) and annotations else None
    for key, kind in (("segments_info", "panoptic segments"), ("caption", "captions")):
        if isinstance(first, dict) and key in first and "bbox" not in first:
            raise ValueError(f"{path} holds {kind}; {_EXPECTED}. Pass instances_*.json, which has boxes.")
    wrong = [key for key in _LISTS if not isinstance(content.get(key), list)]
    if wrong:
        keys = ", ".join(list(content)[:10]) or "nothing"
        raise ValueError(f"{path} has no list {' and no list '.join(wrong)}; it holds {keys}; {_EXPECTED}.")
    return content


def _read_json(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"No file {path}; {_EXPECTED}, as json.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error}); expected json. Unpack it or save it as UTF-8."
        ) from error
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        end = len(text.rstrip())
        cut = error.pos >= end or text[end - 1] not in "]}"
        what = f"is truncated: it ends after {end} characters" if cut else "is not valid json"
        raise ValueError(f"{path} {what} ({error}). Download or write the file again.") from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as json ({error}). Write the file again.") from error


def _categories(path: Path, rows: list[Any], *, lvis: bool) -> list[Entry]:
    seen: dict[str, set[Any]] = {"id": set(), "name": set()}
    problems = []
    for place, row in enumerate(rows):
        problem = _category_problem(row, seen, lvis=lvis)
        if problem:
            problems.append(f"categories[{place}] {problem}")
        else:
            seen["id"].add(row["id"])
            seen["name"].add(row["name"])
    if problems:
        refuse(path, problems, "categories", "Correct the list of categories.")
    if not rows:
        raise ValueError(f"{path} has no category; expected the categories of its annotations, each with id and name.")
    return rows


def _category_problem(row: Any, seen: dict[str, set[Any]], *, lvis: bool) -> str | None:
    if not isinstance(row, dict) or type(row.get("id")) is not int or not isinstance(row.get("name"), str):
        return f"is {shortened(row)}; expected an object with id, a whole number, and name"
    doubled = next((key for key in seen if row[key] in seen[key]), None)
    if doubled:
        return f"has {doubled} {row[doubled]!r}, like another category; expected each {doubled} once"
    if lvis and row.get("frequency") not in _FREQUENCIES:
        return f"({row['name']}) has frequency {shortened(row.get('frequency'))}; expected r, c or f, as in LVIS"
    return None


def _images(path: Path, rows: list[Any], federated: set[int] | None) -> list[Entry]:
    """The images, each with its ``file_name``.

    Args:
        path: The file.
        rows: The file's list of images.
        federated: Ids of the categories, if each image needs LVIS's lists.
    """
    problems = list(_image_problems(rows, federated))
    if problems:
        refuse(path, problems, "images", "Correct the entry.")
    if not rows:
        raise ValueError(f"{path} has no image; expected at least one.")
    return rows


def _image_problems(rows: list[Any], federated: set[int] | None) -> Iterator[str]:
    seen: dict[int, Entry] = {}
    files: dict[str, Entry] = {}
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or type(row.get("id")) is not int:
            yield f"images[{place}] is {shortened(row)}; expected an object with id, a whole number"
            continue
        if "file_name" not in row and isinstance(row.get("coco_url"), str):
            row["file_name"] = "/".join(row["coco_url"].split("/")[-2:])
        problem = _file_problem(row) or _size_problem(row)
        if not problem and federated is not None:
            problem = _federated_problem(row, federated)
        other = seen.setdefault(row["id"], row)
        if other is not row:
            problem = f"has the id of {other.get('file_name')}; expected each id once"
        problem = problem or _doubled_file(row, files)
        if problem:
            yield f"image {row['id']}, {row.get('file_name')}, {problem}"


def _file_problem(row: Entry) -> str | None:
    name = row.get("file_name")
    if not isinstance(name, str) or not name:
        return "has no file_name; expected the image's path below the image folder"
    if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":" or ".." in name.split("/"):
        return "leaves the image folder; expected a path below it, without .. and with / between folders"
    return None


def _doubled_file(row: Entry, files: dict[str, Entry]) -> str | None:
    """The problem if another image has the same file; ``./a.png`` and ``a.png`` are the same."""
    other = files.setdefault(posixpath.normpath(row["file_name"]), row)
    if other is row:
        return None
    return (
        f"is the same file as image {other['id']}, {other['file_name']}; expected one entry for each file. The objects "
        "of one entry would be background in the other: give the annotations of both the same image_id"
    )


def _size_problem(row: Entry) -> str | None:
    for key in ("width", "height"):
        value = row.get(key)
        if type(value) is not int or not 0 < value <= LONGEST:
            return f"has {key} {shortened(value)}; expected a whole number of pixels from 1 to {LONGEST}"
    return None


def _federated_problem(row: Entry, categories: set[int]) -> str | None:
    for key in ("neg_category_ids", "not_exhaustive_category_ids"):
        ids = row.get(key)
        if not isinstance(ids, list) or not all(type(i) is int and i in categories for i in ids):
            return f"has {key} {shortened(ids)}; expected a list of category ids, as in LVIS"
    return None
