"""From what a detector finds in the batch's pixels to boxes and masks of the original image, and to COCO's entries."""

from collections.abc import Sequence
from typing import Any

import torch

from ..data.detection.instance_masks import encode
from ..detectors import Found
from ..geometry.boxes import pasted
from ..geometry.record import Geometry


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
        masks = found["masks"][:, 0].cpu()
        kept["segmentations"] = [encode(pasted(*one, (height, width))) for one in zip(masks, boxes, strict=True)]
    return kept | {"size": (height, width)}


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
