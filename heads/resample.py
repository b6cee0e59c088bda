"""From the cells of a map back to pixels."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .data.geometry import Geometry

_CHUNK = 2**26  # elements of upsampled logits held at once: 256 MiB


def to_pixels(maps: Tensor, reduction: float, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Upsample ``(B, C, rows, columns)`` to cells x reduction and cut it to the image's ``size`` (height, width) [px].

    Where the cells cover less than the image (27 x 14 of 384 px), the last pixels are repeated.

    Args:
        maps: The cells.
        reduction: Pixels per cell, which need not be whole; those of all rows or columns together are.
        size: Height and width of the image [px].
        mode: bilinear or bicubic.
    """
    covered = [round(cells * reduction) for cells in maps.shape[-2:]]
    pixels = F.interpolate(maps, size=covered, mode=mode, align_corners=False)
    pixels = pixels[..., : size[0], : size[1]]
    bottom, right = size[0] - pixels.shape[-2], size[1] - pixels.shape[-1]
    return F.pad(pixels, (0, right, 0, bottom), mode="replicate") if bottom or right else pixels


def scores_at(logits: Tensor, reduction: float, geometry: Geometry) -> Tensor:
    """Logits of an image's cells at its original size, ``(B, C, H, W)``."""
    return geometry.to_original(to_pixels(logits, reduction, geometry.image_size))


def labels_at(logits: Tensor, reduction: float, geometry: Geometry) -> Tensor:
    """Index of the largest of :func:`scores_at`, ``(B, H, W)`` int64.

    A few classes at a time are upsampled, to bound the memory.
    """
    largest = max(math.prod(geometry.image_size), math.prod(geometry.original_size))
    step = max(1, _CHUNK // (logits.shape[0] * largest))
    best: Tensor | None = None
    labels = torch.empty(0)
    for first in range(0, logits.shape[1], step):
        scores, index = scores_at(logits[:, first : first + step], reduction, geometry).max(dim=1)
        if best is None:
            best, labels = scores, index
        else:
            labels = torch.where(scores > best, index + first, labels)
            best = torch.maximum(best, scores)
    return labels
