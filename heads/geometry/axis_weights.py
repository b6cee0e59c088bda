"""How the pixels along one axis are made of cells: a matrix of which only the few cells beside a pixel are kept."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .record import Geometry

_BLOCK = 512  # pixels of a part whose matrix is held whole: its zeros cost as much as for an image of this side


class AxisWeights:
    """Weights of cells for each pixel of an axis.

    Memory and time of all that is done with them grow with the pixels, not with pixels times cells.

    Args:
        first: The first cell that each pixel depends on, int64 ``(pixels,)`` on the CPU. Where all weights are 0 it may
            be any.
        values: Weights of the cells from there on, float64 ``(pixels, n)`` on the CPU.
        cells: Number of cells.
    """

    def __init__(self, first: Tensor, values: Tensor, cells: int) -> None:
        self.first = first
        self.values = values
        self.cells = cells

    @classmethod
    def bilinear(cls, cells: int, reduction: float, pixels: int) -> "AxisWeights":
        """Bilinear (align_corners=False) to cells x reduction, cut to ``pixels``, or the border repeated."""
        covered = round(cells * reduction)
        pixel = torch.arange(pixels, dtype=torch.float64).clamp(max=covered - 1)
        places = ((pixel + 0.5) * (cells / covered) - 0.5).clamp(0, cells - 1)
        first = places.floor().long()
        distances = (places[:, None] - (first[:, None] + torch.arange(2))).abs()
        return cls(first, (1 - distances).clamp(min=0), cells)

    def to_original(self, geometry: Geometry, dim: int) -> "AxisWeights":
        """The same for the pixels of the original image, see :meth:`heads.geometry.record.Geometry.to_original`.

        Args:
            geometry: Of the image whose pixels these are.
            dim: -2 for the rows, -1 for the columns.
        """
        low, high, share, outside = geometry.axis_places(dim)
        taps = torch.arange(self.values.shape[1])
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
        """Some of the pixels: the cells that they depend on, at least one, and the weights of these."""
        first, values = self.first[pixels], self.values[pixels]
        used = (first[:, None] + torch.arange(values.shape[1]))[values != 0]
        start, stop = (int(used.min()), int(used.max()) + 1) if len(used) else (0, 1)
        return slice(start, stop), AxisWeights(first - start, values, stop - start)

    def taps(self, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The cells that each pixel depends on, and their weights, from the largest on: pairs of ``(pixels,)``."""
        count = max(1, int((self.values != 0).sum(dim=1).max()))
        values, order = self.values.sort(dim=1, descending=True, stable=True)
        cells = (self.first[:, None] + order).clamp(0, self.cells - 1)  # beyond them weights are 0
        return [(cells[:, i].to(like.device), values[:, i].to(like)) for i in range(count)]

    def blocks(self, like: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        """Parts that cover the axis: pixels, the cells that they depend on, and the matrix ``(pixels, cells)``."""
        if len(self) <= _BLOCK:  # as those of a band mostly are: nothing to look for
            yield slice(0, len(self)), slice(0, self.cells), self._matrix().to(like)
            return
        for start in range(0, len(self), _BLOCK):
            cells, part = self.part(slice(start, start + _BLOCK))
            yield slice(start, start + len(part)), cells, part._matrix().to(like)

    def _matrix(self) -> Tensor:
        """The matrix ``(pixels, cells)``, float64."""
        places = (self.first[:, None] + torch.arange(self.values.shape[1])).clamp(0, self.cells - 1)
        return torch.zeros(len(self), self.cells, dtype=torch.float64).scatter_add_(1, places, self.values)
