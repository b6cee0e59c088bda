"""From pixels to cells: how many cells an image of any size has, and their embedding."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed, to_2tuple
from timm.models import register_notrace_function, register_notrace_module
from torch import Tensor

from .sizes import plain


def cell_count(side: int, patch: int, stride: int, native: int) -> int:
    """Number of cells along a side, of which the last one may reach beyond the image.

    Args:
        side: Side of the image [px].
        patch: Side of a patch [px].
        stride: From one patch to the next [px]; usually the patch.
        native: Side of the native image [px]. It has the published number of cells, none of which reaches beyond it.
    """
    side = plain(side)
    # asked only where it matters: comparing a symbolic side would exclude the native size from an exported graph
    if native % patch != 0 and side == native:
        return (side - patch) // stride + 1
    if stride == patch:
        return -(-side // patch)
    return (max(side, patch) - patch + stride - 1) // stride + 1


def pad_to_cells(
    x: Tensor, grid: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int], whole: bool, native: int
) -> Tensor:
    """Add zeros below and on the right of images, so that they hold all of their cells.

    Args:
        x: Images ``(B, C, H, W)``.
        grid: Rows and columns of cells.
        patch: Height and width of a patch [px].
        stride: From one patch to the next, down and across [px].
        whole: Refuse images that are no whole number of patches.
        native: Side of the native image [px], which is not refused.

    Raises:
        ValueError: ``whole`` is true, and a side is neither a multiple of the patch nor the native one.
    """
    height, width = plain(x.shape[-2]), plain(x.shape[-1])
    if whole:
        for side, multiple in ((height, patch[0]), (width, patch[1])):
            if side % multiple != 0 and side != native:
                raise ValueError(
                    f"The image is {height} x {width} px; a tower with dynamic_img_pad=False expects multiples of its "
                    f"patch, {patch[0]} x {patch[1]} px. Pad or resize the image, or leave dynamic_img_pad out."
                )
    bottom = (grid[0] - 1) * stride[0] + patch[0] - height
    right = (grid[1] - 1) * stride[1] + patch[1] - width
    if bottom > 0 or right > 0:
        x = F.pad(x, (0, max(right, 0), 0, max(bottom, 0)))
    return x


# leaves of every graph that torch.fx makes: what they do depends on the size, which such a graph leaves open
for _leaf in (cell_count, pad_to_cells):
    register_notrace_function(_leaf)
torch.fx.wrap("cell_count")
torch.fx.wrap("pad_to_cells")


@register_notrace_module
class CellPatchEmbed(PatchEmbed):
    """Patch embedding of any image size: a side of S px gives ceil(S / patch) cells.

    Cell i covers pixels [i * patch, (i + 1) * patch); what it covers beyond the image is zero, mid-grey after
    normalisation. The one exception is a side of the native size, which has the published number of cells: 384 px at
    patch 14 are 27 cells, and the last 6 px are not seen.

    Clients that want finer maps set ``proj.stride`` (Denoising-ViT and what builds on it, such as AnyUp and JAFAR):
    cell i then covers patch px from i * stride on, and there are ceil((S - patch) / stride) + 1. They also put their
    own ``dynamic_feat_size`` in place of this one, which rounds down; the image is padded for what it says.

    Args:
        native_size: Side of the native square image [px].
        **kwargs: Arguments of timm's PatchEmbed.
    """

    def __init__(self, *, native_size: int, **kwargs: Any) -> None:
        self.native_size = native_size
        super().__init__(**kwargs)

    def stride(self) -> tuple[int, int]:
        """From one patch to the next, down and across [px]."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.proj.stride[0], self.proj.stride[1]
        else:  # torch.jit.script reads only one of two branches
            proj = self._modules.get("proj")  # timm counts the cells before there is one
            rows, columns = self.patch_size if proj is None else to_2tuple(proj.stride)
            return rows, columns

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the map of an image of ``img_size`` (height, width) [px]."""
        stride = self.stride()
        rows = cell_count(img_size[0], self.patch_size[0], stride[0], self.native_size)
        columns = cell_count(img_size[1], self.patch_size[1], stride[1], self.native_size)
        return rows, columns

    def _init_img_size(self, img_size: int | tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], int]:
        size = to_2tuple(img_size)
        grid = self.dynamic_feat_size(size)
        return size, grid, grid[0] * grid[1]

    def forward(self, x: Tensor) -> Tensor:
        """Embed images ``(B, C, H, W)`` as ``(B, rows, columns, D)``.

        Raises:
            ValueError: The tower pads no images, and this one is no whole number of patches.
        """
        grid = self.dynamic_feat_size((x.shape[-2], x.shape[-1]))
        x = pad_to_cells(x, grid, self.patch_size, self.stride(), not self.dynamic_img_pad, self.native_size)
        cells: Tensor = self.proj(x).permute(0, 2, 3, 1)
        return cells.contiguous()  # left as a view, its strides would slow down the residual sum of every block
