"""From pixels to cells: the number of cells of an image of any size, and their embedding."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed, to_2tuple
from timm.models import register_notrace_function, register_notrace_module
from torch import Tensor

from .sizes import plain


def cell_count(side: int, patch: int, stride: int, native: int) -> int:
    """Number of cells along a side; the last one may extend beyond the image.

    Args:
        side: Side of the image [px].
        patch: Side of a patch [px].
        stride: Distance from one patch to the next [px]; usually the patch.
        native: Side of the native image [px]. It has the published number of cells, none of which extends beyond it.
    """
    side = plain(side)
    # compare only where it matters: comparing a symbolic side would exclude the native size from an exported graph
    if native % patch != 0 and side == native:
        return (side - patch) // stride + 1
    if stride == patch:
        return -(-side // patch)
    return (max(side, patch) - patch + stride - 1) // stride + 1


def pad_to_cells(
    x: Tensor, grid: tuple[int, int], patch: tuple[int, int], stride: tuple[int, int], whole: bool, native: int
) -> Tensor:
    """Pad images with zeros at the bottom and right, so that they hold all of their cells.

    Args:
        x: Images ``(B, C, H, W)``.
        grid: Rows and columns of cells.
        patch: Height and width of a patch [px].
        stride: Distance from one patch to the next, down and across [px].
        whole: Refuse images that are not a whole number of patches.
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


# leaves of torch.fx graphs: their result depends on the image size, which a graph leaves open
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

    Clients that want finer maps set ``proj.stride`` (Denoising-ViT and projects based on it, such as AnyUp and JAFAR):
    cell i then covers pixels [i * stride, i * stride + patch), and there are ceil((S - patch) / stride) + 1 cells. They
    also replace ``dynamic_feat_size`` by one that rounds down; the image is padded for the size that it returns.

    Args:
        native_size: Side of the native square image [px].
        **kwargs: Arguments of timm's PatchEmbed.
    """

    def __init__(self, *, native_size: int, **kwargs: Any) -> None:
        self.native_size = native_size
        super().__init__(**kwargs)

    def stride(self) -> tuple[int, int]:
        """Distance from one patch to the next, down and across [px]."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.proj.stride[0], self.proj.stride[1]
        else:  # torch.jit.script compiles only one of the two branches
            proj = self._modules.get("proj")  # timm counts the cells before it creates proj
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
            ValueError: The tower does not pad images, and this one is not a whole number of patches.
        """
        grid = self.dynamic_feat_size((x.shape[-2], x.shape[-1]))
        x = pad_to_cells(x, grid, self.patch_size, self.stride(), not self.dynamic_img_pad, self.native_size)
        cells: Tensor = self.proj(x).permute(0, 2, 3, 1)
        return cells.contiguous()  # a permuted view would slow down the residual sum of every block
