"""Bilinear upsampling of one image's cells, one band of pixel rows at a time, so that no full-size map is held."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .axis_weights import AxisWeights
from .record import Geometry

_CHUNK = 2**20  # upsampled elements of one band: 4 MiB fit in the CPU's cache
_CHUNK_ELSEWHERE = 2**24  # 64 MiB keep a GPU busy


@dataclass(frozen=True)
class Band:
    """Some rows of pixels, and the rows of cells that they depend on.

    Args:
        pixels: The rows of pixels.
        cells: The rows of cells.
        weights: Weights of these cells for these pixels.
    """

    pixels: slice
    cells: slice
    weights: AxisWeights


class Upsampling:
    """Bilinear upsampling as row weights and column weights, applied to one band of rows at a time.

    Resizes, crops, flips and pads are linear and separable, so their weights multiply to those of one step. The weights
    are computed in float64. Memory and time grow with the pixels. A pixel's value depends on its cells alone, bit for
    bit: not on the band, the batch, the channel or the number of threads, so equal scores stay equal.

    Args:
        rows: Weights of the rows of cells for each row of pixels.
        columns: Weights of the columns of cells for each column of pixels.
        maps: The maps to upsample, ``(..., C, rows, columns)``; only their shape, type and device are read.

    Attributes:
        size: Height and width of the result [px].
    """

    def __init__(self, rows: AxisWeights, columns: AxisWeights, maps: Tensor) -> None:
        self.size = (len(rows), len(columns))
        self._rows = rows
        self._column_blocks = list(columns.blocks(maps))
        self._column_taps = columns.taps(maps)
        chunk = _CHUNK if maps.device.type == "cpu" else _CHUNK_ELSEWHERE
        self._step = min(max(1, chunk // (maps.shape[-3] * self.size[1])), self.size[0])
        # reused by every band: allocating new pages for each would take longer than the sums
        self._buffers = maps.new_empty(2, self._step, maps.shape[-3], self.size[1])

    @classmethod
    def to_image(cls, maps: Tensor, reduction: float, size: tuple[int, int]) -> "Upsampling":
        """To cells x reduction, cropped or padded to ``size``, as :func:`heads.geometry.resample.to_pixels`."""
        rows, columns = _image_weights(maps, reduction, size)
        return cls(rows, columns, maps)

    @classmethod
    def to_original(cls, maps: Tensor, reduction: float, geometry: Geometry) -> "Upsampling":
        """As :meth:`to_image`, then to the original image; pixels that the image does not show are 0."""
        rows, columns = _image_weights(maps, reduction, geometry.image_size)
        return cls(rows.to_original(geometry, -2), columns.to_original(geometry, -1), maps)

    def bands(self) -> Iterator[Band]:
        """The bands of the result, from top to bottom."""
        for top in range(0, self.size[0], self._step):
            cells, weights = self._rows.part(slice(top, top + self._step))
            yield Band(slice(top, top + len(weights)), cells, weights)

    def band(self, maps: Tensor, band: Band) -> Tensor:
        """A band of the upsampled ``maps`` (C, rows, columns), as ``(rows of pixels, C, W)``.

        The result is a reused buffer: the caller may write to it, and the next call overwrites it.
        """
        columns = maps[:, band.cells].permute(2, 1, 0).contiguous()  # index_select is faster on rows than on columns
        wide = _weighted(columns, self._column_taps).permute(1, 2, 0).contiguous()
        out, scratch = self._buffers[:, : len(band.weights)]
        return _weighted(wide, band.weights.taps(maps), out, scratch)

    def add_gradient(self, gradient: Tensor, of_band: Tensor, band: Band) -> None:
        """Backward pass of :meth:`band`: add the gradient ``of_band`` to the ``gradient`` of the maps, in place."""
        below = gradient[:, band.cells]  # a view of gradient
        for pixels, rows, matrix in band.weights.blocks(gradient):
            wide = (matrix.T @ of_band[pixels].reshape(len(matrix), -1)).view(-1, self.size[1])
            for across, columns, weights in self._column_blocks:
                cells = (wide[:, across] @ weights).view(-1, len(gradient), weights.shape[1])
                below[:, rows, columns] += cells.transpose(0, 1)


def _image_weights(maps: Tensor, reduction: float, size: tuple[int, int]) -> list[AxisWeights]:
    """Weights of the cells for each row and for each column of pixels."""
    return [AxisWeights.bilinear(n, reduction, pixels) for n, pixels in zip(maps.shape[-2:], size, strict=True)]


def _weighted(
    cells: Tensor, taps: list[tuple[Tensor, Tensor]], out: Tensor | None = None, scratch: Tensor | None = None
) -> Tensor:
    """The weighted sum of entries of the first axis, ``(pixels, ...)``.

    Product and sum are rounded separately. Fused multiply-adds and matrix products differ in the last bit between the
    middle and the end of a row.
    """
    (index, weight), *others = taps
    shape = (-1, *[1] * (cells.ndim - 1))
    total = torch.index_select(cells, 0, index, out=out).mul_(weight.view(shape))
    for index, weight in others:
        total += torch.index_select(cells, 0, index, out=scratch).mul_(weight.view(shape))
    return total
