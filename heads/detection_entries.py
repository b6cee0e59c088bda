"""From what a detector finds in the batch's pixels to boxes and masks of the original image, and to COCO's entries."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from .data.geometry import Geometry
from .data.instance_masks import encode
from .detectors import Found

_AT_ONCE = 16  # masks that are held at the size of the image


def original(found: Found, geometry: Geometry) -> dict[str, Any]:
    """What was found in an image, on the CPU and in the pixels of the original.

    Args:
        found: In the pixels of the image as the network saw it.
        geometry: How that came from the original.

    Returns:
        ``boxes`` float32 ``(K, 4)`` xyxy [px] clipped to the image, ``scores``, ``labels``, ``size`` (height and width
        [px]), and where there are masks ``segmentations``, an RLE each.
    """
    height, width = geometry.original_size
    limits = torch.tensor([width, height, width, height], dtype=torch.float64)
    boxes = geometry.original_boxes(found["boxes"].detach().cpu().double())
    boxes = torch.minimum(boxes.clamp(min=0), limits).float()
    kept: dict[str, Any] = {"boxes": boxes, "scores": found["scores"].cpu(), "labels": found["labels"].cpu()}
    if "masks" in found:
        kept["segmentations"] = _pasted(found["masks"].cpu(), boxes, (height, width))
    return kept | {"size": (height, width)}


def _pasted(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Masks ``(K, 1, M, M)`` on a grid over their boxes, at the pixels."""
    encoded: list[dict[str, Any]] = []
    for some, theirs in zip(torch.split(masks, _AT_ONCE), torch.split(boxes, _AT_ONCE), strict=True):
        encoded += [encode(mask[0] > 0.5) for mask in paste_masks_in_image(some, theirs, size)]
    return encoded


def entries_of(found: dict[str, Any], image_id: Any, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """What :func:`original` returns as entries of COCO's result file.

    Args:
        found: In an image.
        image_id: Id of the image.
        category_ids: Id of each class, in the order of the labels.
    """
    boxes = found["boxes"]
    sides = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
    entries = [
        {"image_id": image_id, "category_id": category_ids[label], "bbox": box, "score": score}
        for label, box, score in zip(found["labels"].tolist(), sides, found["scores"].tolist(), strict=True)
    ]
    for entry, rle in zip(entries, found.get("segmentations", ()), strict=False):
        entry["segmentation"] = rle
    return entries
