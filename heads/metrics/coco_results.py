"""Detections as COCO's result format has them: one flat entry each, checked and written."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siglip2_backbone.files import whole_file

from ..data.detection.annotations import Annotations, Entry
from ..data.detection.instance_masks import mask_problem


def check_results(results: Sequence[Entry], truth: Annotations, *, masks: bool = False) -> None:
    """Refuse entries that a scorer would count wrongly without a word.

    pycocotools reads beyond run lengths that do not fill their image, and may never come back.

    Args:
        results: ``image_id``, ``category_id``, ``bbox`` (left, top, width, height) [px], ``score``, and with masks
            ``segmentation``: run lengths, ``size`` (height, width) and ``counts`` as text.
        truth: What they are compared with.
        masks: Whether every entry must have a mask.

    Raises:
        ValueError: An entry is of an unknown image or category, lacks a part or holds what is no number.
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
    """Write entries as json that ``pycocotools.coco.COCO.loadRes`` reads, with every digit of scores and boxes.

    pycocotools reads a list that is not empty only, and takes the box's area for that of a mask where an entry has
    both: load it without the boxes for AP of masks by size.

    Raises:
        ValueError: An entry lacks a part or holds what is no number, or the file cannot be written.
    """
    for place, entry in enumerate(results):
        if fault := _fault(entry, masks="segmentation" in entry):
            raise ValueError(f"{path} is not written. {_name(place, entry)}: {fault}.")
    with whole_file(path) as partial:
        partial.write_text(json.dumps(list(results)) + "\n", encoding="utf-8")


def _fault(entry: Entry, masks: bool) -> str | None:
    """What is wrong with an entry, whatever it is compared with."""
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
        return "it has no segmentation that can be read; expected run lengths: a list as size, and counts as text"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _name(place: int, entry: Entry) -> str:
    return f"Result {place} (image_id {entry.get('image_id')!r}, category_id {entry.get('category_id')!r})"
