"""Weights of the cells for the pixels along one axis: a banded matrix of which only the band is stored."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .record import Geometry

_BLOCK = 512  # pixels per dense block, which bounds the cost of its zeros to that of an image with this side


class AxisWeights:
    """Weights of the cells for each pixel of an axis.

    Memory and time of all operations grow with the pixels, not with pixels times cells.

    Args:
        first: The first cell that each pixel depends on, int64 ``(pixels,)`` on the CPU; arbitrary where all weights
            are 0.
        values: Weights of the ``n`` cells from ``first`` on, float64 ``(pixels, n)`` on the CPU.
        cells: Number of cells.
    """

    def __init__(self, first: Tensor, values: Tensor, cells: int) -> None:
        self.first = first
        self.values = values
        self.cells = cells

    @classmethod
    def bilinear(cls, cells: int, reduction: float, pixels: int) -> "AxisWeights":
        """Bilinear (align_corners=False) to cells x reduction, cropped to ``pixels`` or padded with the last pixel."""
        covered = round(cells * reduction)
        # beyond the cells the last pixel is repeated, as in to_pixels
        pixel = torch.arange(pixels, dtype=torch.float64).clamp(max=covered - 1)
        # half-pixel rule: pixel and cell i have their centres at i + 0.5
        places = ((pixel + 0.5) * (cells / covered) - 0.5).clamp(0, cells - 1)
        first = places.floor().long()
        distances = (places[:, None] - (first[:, None] + torch.arange(2))).abs()
        return cls(first, (1 - distances).clamp(min=0), cells)

    def to_original(self, geometry: Geometry, dim: int) -> "AxisWeights":
        """Weights for the pixels of the original image, see :meth:`heads.geometry.record.Geometry.to_original`.

        Args:
            geometry: Record of the image that the present pixels belong to.
            dim: -2 for the rows, -1 for the columns.
        """
        low, high, share, outside = geometry.axis_places(dim)
        taps = torch.arange(self.values.shape[1])
        # an original pixel mixes two image pixels: put both weight rows on one run of cells and add them
        first = torch.minimum(self.first[low], self.first[high])
        places = [(self.first[pixel] - first)[:, None] + taps for pixel in (low, high)]
        values = torch.zeros(len(first), int(torch.stack(places).max()) + 1, dtype=torch.float64)
        values.scatter_add_(1, places[0], self.values[low] * (1 - share)[:, None])
        values.scatter_add_(1, places[1], self.values[high] * share[:, None])
        return AxisWeights(first, values.index_fill(0, outside, 0), self.cells)

    def __len__(self) -> int:
        """Number of pixels."""
        return len(self.first)

    def part(self, pixels: slice) -> tuple[slice, "AxisWeights"]:
        """The cells that some pixels depend on, at least one, and the weights of these cells."""
        first, values = self.first[pixels], self.values[pixels]
        # weights of 0 do not count; pixels that the image does not show have no others
        used = (first[:, None] + torch.arange(values.shape[1]))[values != 0]
        start, stop = (int(used.min()), int(used.max()) + 1) if len(used) else (0, 1)
        return slice(start, stop), AxisWeights(first - start, values, stop - start)

    def taps(self, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The cells that each pixel depends on and their weights, largest first: a pair of ``(pixels,)`` per tap."""
        count = max(1, int((self.values != 0).sum(dim=1).max()))
        # stable: the order of equal weights, and with it the rounding of the sum, is fixed
        values, order = self.values.sort(dim=1, descending=True, stable=True)
        cells = (self.first[:, None] + order).clamp(0, self.cells - 1)  # cells outside the map have weight 0
        return [(cells[:, i].to(like.device), values[:, i].to(like)) for i in range(count)]

    def blocks(self, like: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Dense blocks that cover the axis: pixels, their cells, and the matrix ``(pixels, cells)``."""
        if len(self) <= _BLOCK:  # the usual case for the rows of a band: one block with all cells
            yield slice(0, len(self)), slice(0, self.cells), self._matrix().to(like)
            return
        for start in range(0, len(self), _BLOCK):
            cells, part = self.part(slice(start, start + _BLOCK))
            yield slice(start, start + len(part)), cells, part._matrix().to(like)

    def _matrix(self) -> Tensor:
        """The dense matrix ``(pixels, cells)``, float64."""
        # clamped places can coincide with used ones, with weight 0: add, do not overwrite
        places = (self.first[:, None] + torch.arange(self.values.shape[1])).clamp(0, self.cells - 1)
        return torch.zeros(len(self), self.cells, dtype=torch.float64).scatter_add_(1, places, self.values)
