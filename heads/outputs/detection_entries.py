"""Detections from the batch's pixels to the original image's, and from there to COCO's entries."""

from collections.abc import Sequence
from typing import Any

import torch

from ..data.detection.instance_masks import encode
from ..detectors import Detections
from ..geometry.boxes import pasted
from ..geometry.record import Geometry


def original(found: Detections, geometry: Geometry) -> dict[str, Any]:
    """Move the detections of an image to the CPU and to the pixels of the original.

    Args:
        found: Detections in the pixels of the network's input.
        geometry: Mapping from the original to the network's input.

    Returns:
        ``boxes`` float32 ``(K, 4)`` xyxy [px] clipped to the image, ``scores``, ``labels``, ``size`` (height and width
        [px]), and ``segmentations``, one RLE each, if there are masks.
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
    """Convert the result of :func:`original` to entries of COCO's result file.

    Args:
        found: Result of :func:`original` for an image.
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
