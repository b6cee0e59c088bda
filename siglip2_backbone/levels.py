"""Resampling of maps between cell sizes, with cells located in pixels; all pyramids use it."""

from contextlib import nullcontext

import torch
from timm.models import register_notrace_function
from torch import Tensor

from .sizes import plain

Size = tuple[int, int]


def level_matrix(
    old: int, new: int, patch: int, stride: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The matrix ``(new, old)`` that resamples cells of ``patch`` px to cells of ``stride`` px; each row sums to one.

    Cells are located by their centres in pixels, and between two centres the map is linear. A finer level samples that
    line at the centre of each of its cells; a coarser one averages it over ``stride - patch`` px around the centre.
    Equal strides therefore give the identity, twice the stride gives the mean of two cells, and a linear ramp stays
    linear at every ratio. torch's antialiased interpolation (a stretched triangle) does not preserve a ramp at ratios
    such as 32 / 14. Beyond the outermost centres the border value is repeated.

    Args:
        old: Number of cells before.
        new: Number of cells after.
        patch: Side of a cell before [px].
        stride: Side of a cell after [px].
        device: Where to build it.
        dtype: Floating point type to build it in; every position is a multiple of half a pixel, so float32 is exact.
    """
    source = (torch.arange(old, device=device, dtype=dtype) + 0.5) * patch
    centre = (torch.arange(new, device=device, dtype=dtype) + 0.5) * stride
    span = stride - patch
    # one sample per pixel averages exactly: the line bends only at centres, which lie between two samples
    offset = torch.arange(max(span, 1), device=device, dtype=dtype) - (max(span, 1) - 1) / 2
    position = (centre[:, None] + offset).clamp(source[0], source[-1])
    weights = (1 - (position[..., None] - source).abs() / patch).clamp(min=0)
    return weights.mean(dim=1)


def resample_map(x: Tensor, patch: int, stride: int, size: Size) -> Tensor:
    """Resample a map to another stride, see :func:`level_matrix`.

    Args:
        x: Map ``(B, D, rows, columns)`` with cells of ``patch`` px.
        patch: Side of a cell of ``x`` [px].
        stride: Side of a cell of the result [px].
        size: Height and width of the image [px].

    Returns:
        ``(B, D, ceil(H / stride), ceil(W / stride))`` in the map's type, computed in float32 at least.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows, columns = level_cells(size, stride)
    # autocast does not support the meta device
    with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
        vertical = level_matrix(plain(x.shape[-2]), rows, patch, stride, x.device, dtype)
        horizontal = level_matrix(plain(x.shape[-1]), columns, patch, stride, x.device, dtype)
        return (vertical @ (x.to(dtype) @ horizontal.mT)).to(x.dtype)


register_notrace_function(resample_map)


def level_cells(size: Size, stride: int) -> Size:
    """Rows and columns of a level of an image of ``size`` [px]."""
    return -(-plain(size[0]) // stride), -(-plain(size[1]) // stride)
