"""Boxes: corners from centres, and masks pasted at the pixels that a box covers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert


def corners(boxes: Tensor) -> Tensor:
    """Convert centre and size to left, top, right and bottom."""
    converted: Tensor = box_convert(boxes, "cxcywh", "xyxy")
    return converted


_SMALLEST = 1e-3  # smallest side of a box [px], against division by 0; a flat box gets no pixel


def pasted(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """Paste a mask into an image: true where the mask, interpolated at the pixel's centre, exceeds 0.5.

    torchvision's ``paste_masks_in_image`` rounds the box to whole pixels first, which costs small objects most.

    Args:
        mask: Probabilities ``(M, M)`` on a grid over the box; 0 beyond the grid.
        box: xyxy ``(4,)`` [px], within the image.
        size: Height and width of the image [px].

    Source: ``paste_masks_in_image`` of facebookresearch/detectron2.
    """
    left, top, right, bottom = box.tolist()
    rows, columns = slice(math.floor(top), math.ceil(bottom)), slice(math.floor(left), math.ceil(right))
    y, x = (  # pixel centres relative to the box, from -1 to 1 as in grid_sample
        (torch.arange(part.start, part.stop) + 0.5 - first) / max(last - first, _SMALLEST) * 2 - 1
        for part, first, last in ((rows, top, bottom), (columns, left, right))
    )
    places = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
    pixels = torch.zeros(size, dtype=torch.bool)
    if len(y) and len(x):
        pixels[rows, columns] = F.grid_sample(mask[None, None], places[None], align_corners=False)[0, 0] > 0.5
    return pixels
