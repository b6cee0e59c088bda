"""Detections in COCO's result format, one flat entry each: checked and written."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siglip2_backbone.files import whole_file

from ..data.detection.annotations import Annotations, Entry
from ..data.detection.instance_masks import mask_problem


def check_results(results: Sequence[Entry], truth: Annotations, *, masks: bool = False) -> None:
    """Reject entries that a scorer would silently count wrongly.

    pycocotools reads past the end of run lengths that do not fill their image, and may never return.

    Args:
        results: ``image_id``, ``category_id``, ``bbox`` (left, top, width, height) [px], ``score``, and with masks
            ``segmentation``: run lengths, ``size`` (height, width) and ``counts`` as text.
        truth: The ground truth that they are scored against.
        masks: Whether every entry must have a mask.

    Raises:
        ValueError: An entry names an unknown image or category, lacks a field or has an invalid value.
    """
    sizes = {image["id"]: [image["height"], image["width"]] for image in truth.images}
    categories = set(truth.category_ids)
    for place, entry in enumerate(results):
        fault = _fault(entry, masks)
        if not fault and entry["image_id"] not in sizes:
            fault = f"{truth.source} has no such image"
        if not fault and entry["category_id"] not in categories:
            fault = f"{truth.source} has no such category"
        if not fault and masks:
            fault = mask_problem(entry["segmentation"], *sizes[entry["image_id"]])
        if fault:
            raise ValueError(f"{_name(place, entry)}: {fault}.")


def write_results(results: Sequence[Entry], path: Path) -> None:
    """Write entries as JSON that ``pycocotools.coco.COCO.loadRes`` reads, with all digits of scores and boxes.

    ``loadRes`` fails on an empty list, and uses the area of the box for the mask where an entry has both: load the
    entries without boxes for mask AP by size.

    Raises:
        ValueError: An entry lacks a field or has an invalid value, or the file cannot be written.
    """
    for place, entry in enumerate(results):
        if fault := _fault(entry, masks="segmentation" in entry):
            raise ValueError(f"{path} is not written. {_name(place, entry)}: {fault}.")
    with whole_file(path) as partial:
        partial.write_text(json.dumps(list(results)) + "\n", encoding="utf-8")


def _fault(entry: Entry, masks: bool) -> str | None:
    """What is wrong with an entry by itself; ``None`` if nothing is."""
    ids, score, box = [entry.get("image_id"), entry.get("category_id")], entry.get("score"), entry.get("bbox")
    if not all(isinstance(i, int) for i in ids):
        return "expected whole numbers as ids"
    if not _is_number(score):
        return f"its score is {score!r}; expected a number"
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) >= 0):
        return f"its bbox is {box!r}; expected a list of left, top, width and height"
    mask = entry.get("segmentation")
    parts = (mask.get("size"), mask.get("counts")) if isinstance(mask, dict) else (None, None)
    if masks and not (isinstance(parts[0], list) and isinstance(parts[1], str)):
        return "it has no segmentation that can be read; expected run lengths: size as a list, and counts as text"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _name(place: int, entry: Entry) -> str:
    return f"Result {place} (image_id {entry.get('image_id')!r}, category_id {entry.get('category_id')!r})"
