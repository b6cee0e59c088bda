"""Windowed attention: ViTDet's approach to large images, with the weights of a tower that attends everywhere."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models import register_notrace_function, register_notrace_module
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from .indices import absolute_indices
from .sizes import plain

Grid = tuple[int, int]


@register_notrace_module
class GridAttention(Attention):
    """timm's attention, with the same parameters, on the cells ``(B, rows, columns, D)`` of a map.

    It attends everywhere, or within adjacent windows that start at the upper left corner. Along an axis where the map
    is no longer than a window, the window spans the map. Keys beyond the border are masked. If windows divide the map
    there is no mask, so that flash attention can be used.

    A graph exported with dynamic sizes always has the mask. From torch.export it takes maps longer than a window on
    both axes; as ONNX it takes every map.

    Attributes:
        window_size: Side of a window [cells]; ``None`` to attend everywhere.

    Source: Li et al., arXiv:2203.16527, section 3; facebookresearch/detectron2 @ 0818132, ``modeling/backbone/vit.py``
    and ``utils.py``. There the normed map is padded with zeros to whole windows of ``window_size``, and the projected
    zeros, which are the biases, take part as keys and values.
    """

    window_size: int | None = None

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Attention of cells ``(B, rows, columns, D)``, in the same shape.

        Raises:
            ValueError: A mask is given.
        """
        if attn_mask is not None or is_causal:
            raise ValueError("attn_mask and is_causal are not supported with window_size. Leave them out.")
        if self.window_size is None:
            cells: Tensor = super().forward(x.flatten(1, 2))
            return cells.reshape(x.shape)
        window = (_side(x.shape[1], self.window_size), _side(x.shape[2], self.window_size))
        windows, mask = split(x, window)
        return join(super().forward(windows, mask), x.shape, window)


def split(x: Tensor, window: Grid) -> tuple[Tensor, Tensor | None]:
    """Cut a map into whole windows.

    Args:
        x: Cells ``(B, rows, columns, D)``.
        window: Rows and columns of a window [cells].

    Returns:
        Windows ``(B * windows, cells, D)``, zero beyond the border, and the additive mask of their keys,
        ``(B * windows, 1, 1, cells)``: minus infinity beyond the border, or ``None`` if the windows divide the map.
    """
    batch, rows, columns = x.shape[0], plain(x.shape[1]), plain(x.shape[2])
    down, across = _count(rows, window[0]), _count(columns, window[1])
    bottom, right = down * window[0] - rows, across * window[1] - columns

    def tiles(cells: Tensor) -> Tensor:
        dim = cells.shape[-1]
        cells = cells.reshape(batch, down, window[0], across, window[1], dim).transpose(2, 3)
        return cells.reshape(batch * down * across, window[0] * window[1], dim)

    padded = _pad(x, bottom, right)
    if padded is x:
        return tiles(x), None
    return tiles(padded), tiles(_pad(x.new_zeros(batch, rows, columns, 1), bottom, right, float("-inf"))).mT[:, None]


def join(windows: Tensor, shape: Sequence[int], window: Grid) -> Tensor:
    """Join windows ``(B * windows, cells, D)`` from :func:`split` to cells of ``shape``."""
    batch, rows, columns, dim = shape[0], plain(shape[1]), plain(shape[2]), shape[3]
    down, across = _count(rows, window[0]), _count(columns, window[1])
    cells = windows.reshape(batch, down, across, *window, dim).transpose(2, 3)
    cells = cells.reshape(batch, down * window[0], across * window[1], dim)
    return _pad(cells, rows - down * window[0], columns - across * window[1])


def _side(cells: int, window: int) -> int:
    """Side of a window on an axis of ``cells``; an axis of symbolic length counts as longer than a window."""
    cells = plain(cells)
    return cells if statically_known_true(cells <= window) else window


# leaves of torch.fx graphs: their result depends on the image size, which a graph leaves open
for _leaf in (split, join, _side):
    register_notrace_function(_leaf)
torch.fx.wrap("split")
torch.fx.wrap("join")
torch.fx.wrap("_side")


def _count(cells: int, side: int) -> int:
    """Number of windows along an axis; all terms are positive, because ONNX rounds a negative quotient up."""
    return (cells + side - 1) // side


def _pad(x: Tensor, bottom: int, right: int, value: float = 0.0) -> Tensor:
    """Cells with rows and columns added or removed; unchanged if both are known to be zero."""
    if statically_known_true(bottom == 0) and statically_known_true(right == 0):
        return x
    return F.pad(x, (0, 0, 0, right, 0, bottom), value=value)


def global_indices(depth: int, window_size: int | None, asked: Sequence[int] | None) -> list[int] | None:
    """Blocks that attend everywhere, counted from the start; ``None`` without windows, where all blocks do.

    Args:
        depth: Number of blocks of the tower.
        window_size: Side of a window [cells], or ``None``.
        asked: Block indices, negative ones counting from the end; ``None`` for four by
            :func:`~siglip2_backbone.tap_indices`, which match ViTDet's for 12 blocks.

    Raises:
        ValueError: The side is not a positive integer, or the indices are not blocks or are given without windows.
    """
    if window_size is None:
        if asked is not None:
            raise ValueError(
                f"global_blocks is {asked!r}, but without window_size every block is global. Pass window_size as well, "
                "such as 14, or leave global_blocks out."
            )
        return None
    if type(window_size) is not int or window_size < 1:
        raise ValueError(
            f"window_size is {window_size!r}; expected the side of a window in cells, at least 1, or None."
        )
    return absolute_indices(depth, asked, "global_blocks", list_only=True)


def flattened(found: Any, maps: bool) -> Any:
    """Flatten the cells ``(B, rows, columns, D)`` in a result of timm's methods to tokens ``(B, N, D)``.

    Args:
        found: Cells, or a list, tuple or dict with them.
        maps: Lists hold maps ``(B, D, rows, columns)``, which are returned unchanged.
    """
    if isinstance(found, dict):
        return {key: flattened(value, maps) for key, value in found.items()}
    if isinstance(found, tuple):
        return tuple(flattened(value, maps) for value in found)
    if isinstance(found, list):
        return found if maps else [flattened(value, maps) for value in found]
    return found.flatten(1, 2)  # a tensor, or a proxy of torch.fx
