"""Anchors and RoI align on levels of known reductions, which torchvision infers from sizes instead."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, box_area

_CANONICAL = 16 / 224  # px per cell for each px of a region's side; arXiv:1612.03144, equation 1


class LevelAnchors(AnchorGenerator):
    """torchvision's anchors at multiples of each level's reduction, for any image size.

    The original divides the image's size by the level's and rounds down, which is correct only where the reduction
    divides the size: for 4 rows that cover 100 px it gets 25 px, but the cells have 32.

    Args:
        scales: Sides of the anchors in pixels per cell, the same on every level.
        ratios: Height / width of the anchors.
        reductions: Pixels per cell of the levels.

    Raises:
        ValueError: There is no scale, or an anchor is smaller than 2 px.
    """

    def __init__(self, scales: Sequence[float], ratios: Sequence[float], reductions: Sequence[int]) -> None:
        sizes = tuple(tuple(int(scale * reduction) for scale in scales) for reduction in reductions)
        if min((size for level in sizes for size in level), default=0) < 2:
            raise ValueError(
                f"Anchors of {list(scales)} x {list(reductions)} px; expected at least one scale, and at least 2 px."
            )
        super().__init__(sizes, (tuple(ratios),) * len(reductions))
        self.reductions = list(reductions)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Anchors ``(N, 4)`` xyxy [px] for each image, level by level."""
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        grids = [level.shape[-2:] for level in feature_maps]
        anchors = torch.cat(self.grid_anchors(grids, [(r, r) for r in self.reductions]))
        return [anchors for _ in image_list.image_sizes]


class LevelRoIAlign(MultiScaleRoIAlign):
    """torchvision's RoI align on levels of any reductions.

    The original infers a power of 2 from the sizes of the first batch and keeps it, which is wrong for patches of 14 px
    and for images smaller than a few cells; it also assumes that each level is twice as coarse as the one before.

    Args:
        names: Keys of the levels to read.
        reductions: Pixels per cell of these levels.
        output_size: Rows and columns that a region is resampled to.
    """

    def __init__(self, names: Sequence[str], reductions: Sequence[int], output_size: int) -> None:
        super().__init__(list(names), output_size, sampling_ratio=2)
        self.scales = [1 / reduction for reduction in reductions]
        self.map_levels = partial(_levels, reductions=list(reductions))


def _levels(boxes: list[Tensor], reductions: list[int]) -> Tensor:
    """Index of the level that each region is read from, int64: 16 px per cell from a side of 224 px on."""
    sides = torch.cat([box_area(b) for b in boxes]).sqrt()
    wanted = sides * (_CANONICAL * (1 + 1e-6))  # a side of exactly 224 px reaches its level despite rounding
    return torch.stack([wanted >= reduction for reduction in reductions[1:]]).sum(dim=0)
