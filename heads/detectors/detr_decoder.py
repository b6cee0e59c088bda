"""A decoder layer whose queries are boxes: a cell's position relative to a box biases the attention to the cell."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import MLP

from ..geometry.boxes import corners

_TEMPERATURE = 20.0  # of the sine encoding; DAB-DETR's (arXiv:2201.12329), for coordinates in [0, 1]
_BIAS_HIDDEN = 64  # hidden channels of the box-relative bias; Plain-DETR has 512, which costs more than the attention


@dataclass(frozen=True)
class Cells:
    """Positions of a batch's cells; cell i of a row covers [i, i + 1), in cells.

    Attributes:
        columns: Centres ``(columns,)``, in cells.
        rows: Centres ``(rows,)``, in cells.
        extent: Width, height, width and height of each image ``(B, 4)``, in cells: scales a box in [0, 1] to cells.
        hidden: Whether a cell starts outside its image ``(B, rows * columns)``.
    """

    columns: Tensor
    rows: Tensor
    extent: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, grid: Tensor, sizes: list[tuple[int, int]], reduction: float) -> "Cells":
        """The cells of maps ``(B, C, rows, columns)`` for images of these heights and widths [px]."""
        rows, columns = (torch.arange(n, device=grid.device, dtype=grid.dtype) for n in grid.shape[-2:])
        extent = grid.new_tensor([(w, h, w, h) for h, w in sizes]) / reduction
        outside = (rows >= extent[:, 1:2])[:, :, None] | (columns >= extent[:, :1])[:, None]
        return cls(columns + 0.5, rows + 0.5, extent, outside.flatten(1))

    def encoding(self, dim: int) -> Tensor:
        """Sine encoding of the centres, relative to their image ``(B, rows * columns, dim)``, y before x."""
        y = sine(self.rows / self.extent[:, 1:2], dim // 2)
        x = sine(self.columns / self.extent[:, :1], dim // 2)
        shape = (-1, len(self.rows), len(self.columns), -1)
        return torch.cat([y[:, :, None].expand(shape), x[:, None].expand(shape)], dim=-1).flatten(1, 2)


class DecoderLayer(nn.Module):
    """Self-attention of the queries, cross-attention to the cells, and an MLP; all pre-norm and residual.

    Args:
        dim: Channels.
        heads: Attention heads.
        mlp_dim: Hidden channels of the MLP.
        dropout: Dropout in the attention and the MLP.
    """

    def __init__(self, dim: int, heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.self_attention = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.cross_attention = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.bias = BoxBias(heads)
        self.mlp = MLP(dim, [mlp_dim, dim], dropout=dropout)

    def forward(
        self, queries: Tensor, position: Tensor, boxes: Tensor, keys: Tensor, values: Tensor, cells: Cells
    ) -> Tensor:
        """The updated queries ``(B, Q, dim)``.

        Args:
            queries: Queries from the previous layer ``(B, Q, dim)``.
            position: Encoding of the boxes ``(B, Q, dim)``.
            boxes: Centre x, centre y, width and height in [0, 1] of the image ``(B, Q, 4)``.
            keys: The cells with their positional encoding ``(B, N, dim)``.
            values: The cells ``(B, N, dim)``.
            cells: Positions of the cells.
        """
        x = self.norms[0](queries)
        queries = queries + self.self_attention(x + position, x + position, x, need_weights=False)[0]
        x = self.norms[1](queries) + position
        bias = self.bias(boxes, cells).masked_fill(cells.hidden[:, None, None], -math.inf).flatten(0, 1)
        queries = queries + self.cross_attention(x, keys, values, attn_mask=bias, need_weights=False)[0]
        updated: Tensor = queries + self.mlp(self.norms[2](queries))
        return updated


class BoxBias(nn.Module):
    """Bias of the attention from boxes to cells, from the offsets between a cell and the edges of a box.

    One MLP reads the offsets to the left and right edges, another those to the top and bottom; the bias is their sum.

    Source: BoxRPB of Plain-DETR (arXiv:2308.01904; impiga/Plain-DETR @ 6ad930b, ``global_rpe_decomp_decoder.py``).
    Theirs reads offsets in pixels, by default without the logarithm; these are in cells, for any patch size.

    Args:
        heads: Attention heads, each with a bias.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.x, self.y = MLP(2, [_BIAS_HIDDEN, heads]), MLP(2, [_BIAS_HIDDEN, heads])

    def forward(self, boxes: Tensor, cells: Cells) -> Tensor:
        """Bias ``(B, heads, Q, rows * columns)`` for boxes ``(B, Q, 4)``: centre and size in [0, 1] of the image."""
        edges = corners(boxes * cells.extent[:, None])
        x = self.x(_offsets(cells.columns, edges[..., 0::2]))
        y = self.y(_offsets(cells.rows, edges[..., 1::2]))
        bias: Tensor = (y[:, :, :, None] + x[:, :, None]).flatten(2, 3).permute(0, 3, 1, 2)
        return bias


def sine(values: Tensor, dim: int) -> Tensor:
    """Sines and cosines ``(..., dim)`` of values in [0, 1], which span one period at most and 1/20 at least."""
    steps = torch.arange(dim // 2, device=values.device, dtype=values.dtype) / (dim // 2)
    angles = values[..., None] * (2 * math.pi * _TEMPERATURE**-steps)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _offsets(centres: Tensor, edges: Tensor) -> Tensor:
    """Offsets from the two edges ``(B, Q, 2)`` of each box to the cells ``(n,)``: ``(B, Q, n, 2)``, in signed log."""
    offsets = centres[:, None] - edges[:, :, None]
    return offsets.sign() * offsets.abs().log1p()
