"""From the cells of a feature map back to pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .record import Geometry
from .upsampling import Upsampling


def to_pixels(maps: Tensor, reduction: float, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    """Upsample ``(B, C, rows, columns)`` to cells x reduction and crop to the image's ``size`` (height, width) [px].

    Where the cells cover less than the image (27 x 14 of 384 px), the last pixels are repeated.

    Args:
        maps: The cells.
        reduction: Pixels per cell; may be fractional, but all rows together cover whole pixels, as do all columns.
        size: Height and width of the image [px].
        mode: bilinear or bicubic.
    """
    covered = [round(cells * reduction) for cells in maps.shape[-2:]]
    pixels = F.interpolate(maps, size=covered, mode=mode, align_corners=False)
    pixels = pixels[..., : size[0], : size[1]]
    bottom, right = size[0] - pixels.shape[-2], size[1] - pixels.shape[-1]
    return F.pad(pixels, (0, right, 0, bottom), mode="replicate") if bottom or right else pixels


@torch.no_grad()
def scores_at(logits: Tensor, reduction: float, geometry: Geometry) -> Tensor:
    """Logits of the cells, upsampled to the original image, ``(B, C, H, W)``, without autograd."""
    upsampling = Upsampling.to_original(logits, reduction, geometry)
    scores = logits.new_empty(*logits.shape[:2], *upsampling.size)
    for maps, image in zip(logits, scores, strict=True):
        for band in upsampling.bands():
            image[:, band.pixels] = upsampling.band(maps, band).transpose(0, 1)
    return scores


@torch.no_grad()
def labels_at(logits: Tensor, reduction: float, geometry: Geometry) -> Tensor:
    """Argmax of :func:`scores_at` over the classes, ``(B, H, W)`` int64; ties go to the first class.

    One band of rows is upsampled at a time, to bound the memory.
    """
    upsampling = Upsampling.to_original(logits, reduction, geometry)
    labels = torch.empty(len(logits), *upsampling.size, dtype=torch.int64, device=logits.device)
    for maps, image in zip(logits, labels, strict=True):
        for band in upsampling.bands():
            image[band.pixels] = _first_largest(upsampling.band(maps, band))
    return labels


def _first_largest(scores: Tensor) -> Tensor:
    """``scores.argmax(dim=1)`` of ``(rows, C, W)`` in a third of the time; overwrites ``scores``.

    One product counts the classes that reach the maximum and sums their indices. For a single class the sum is the
    argmax; only ties are searched.
    """
    classes = torch.arange(scores.shape[1], device=scores.device)
    reached = scores.eq_(scores.amax(dim=1, keepdim=True))  # 1 or 0
    count, index = (torch.stack([torch.ones_like(classes), classes]).to(reached) @ reached).unbind(dim=1)
    labels = index.long()
    tied = count != 1
    if tied.any():
        labels[tied] = reached.movedim(1, -1)[tied].argmax(dim=-1)
    return labels
