"""Sliding windows: their positions, the crops of an image, and the merging of a head's outputs."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Window = tuple[int, int]
"""Top and left of a window [px]."""


def windows(size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]) -> list[Window]:
    """Positions of the windows that cover an image, row by row.

    The last window of a row or column is shifted back to end at the border, not padded. An image smaller than the
    window has one window, which reaches beyond the image.

    Args:
        size: Height and width of the image [px].
        window: Height and width of the windows [px].
        stride: Rows and columns from one window to the next [px].

    Raises:
        ValueError: A number is not positive, or the stride leaves gaps.

    Source: the rule of mmsegmentation's ``slide_inference``, and of facebookresearch/dinov3 @ 6876159 (512 and 341).
    """
    if min(*size, *window, *stride) < 1 or stride[0] > window[0] or stride[1] > window[1]:
        raise ValueError(
            f"The windows are {window} at stride {stride}, the image {size}; expected at least 1 px and a stride of at "
            "most the window, which leaves no gaps."
        )
    tops, lefts = (_starts(*axis) for axis in zip(size, window, stride, strict=True))
    return [(top, left) for top in tops for left in lefts]


def _starts(size: int, window: int, stride: int) -> list[int]:
    count = max(0, -(-(size - window) // stride)) + 1  # -(-a // b) rounds up
    return [max(0, min(i * stride, size - window)) for i in range(count)]


def cut(image: Tensor, at: Sequence[Window], window: tuple[int, int]) -> Tensor:
    """Crops ``(N, C, *window)`` of an image ``(C, H, W)``, zero-padded beyond its border.

    Args:
        image: The image.
        at: Top and left of each crop.
        window: Height and width of the crops [px].
    """
    bottom, right = max(0, window[0] - image.shape[1]), max(0, window[1] - image.shape[2])
    padded = F.pad(image, (0, right, 0, bottom)) if bottom or right else image
    return torch.stack([padded[:, top : top + window[0], left : left + window[1]] for top, left in at])


class Merge:
    """The weighted mean of overlapping windows, accumulated batch by batch.

    Batches may have any size: windows in the same order give the same sum, bit for bit. A single window that covers
    the image returns the outputs that were added.

    Args:
        size: Height and width of the image [px].
        window: Height and width of the windows [px].
        weight: Weight of each pixel of a window, ``(*window)``, above 0; all equal by default, as in the references.

    Raises:
        ValueError: ``weight`` has another shape, or a weight is not positive.
    """

    def __init__(self, size: tuple[int, int], window: tuple[int, int], weight: Tensor | None = None) -> None:
        if weight is not None and (tuple(weight.shape) != tuple(window) or not (weight > 0).all()):
            raise ValueError(f"weight is {tuple(weight.shape)}; expected {tuple(window)}, all above 0.")
        self.size = size
        self.window = window
        self.weight = weight
        self._sum: Tensor | None = None
        self._weights: Tensor | None = None

    def add(self, outputs: Tensor, at: Sequence[Window]) -> None:
        """Add a head's outputs for some windows.

        Args:
            outputs: At pixel resolution, ``(N, C, *window)``, float32 or float64.
            at: Top and left of each window.

        Raises:
            ValueError: The number or the size of the outputs does not match the windows.
        """
        if len(outputs) != len(at) or tuple(outputs.shape[-2:]) != tuple(self.window):
            raise ValueError(
                f"outputs are {tuple(outputs.shape)} for {len(at)} windows; expected (N, C, {self.window[0]}, "
                f"{self.window[1]}) with N outputs for N windows."
            )
        weight = self.weight if self.weight is not None else outputs.new_ones(self.window)
        weight = weight.to(outputs)
        if self._sum is None or self._weights is None:
            self._sum, self._weights = outputs.new_zeros(outputs.shape[1], *self.size), outputs.new_zeros(self.size)
        for output, (top, left) in zip(outputs, at, strict=True):
            rows, columns = slice(top, top + self.window[0]), slice(left, left + self.window[1])
            inside = self._weights[rows, columns]  # a view, cut at the border; the sums write in place
            height, width = inside.shape
            inside += weight[:height, :width]
            self._sum[:, rows, columns] += (output if self.weight is None else output * weight)[:, :height, :width]

    def result(self) -> Tensor:
        """The mean at every pixel, ``(C, H, W)``.

        Raises:
            ValueError: A pixel is in none of the added windows.
        """
        if self._sum is None or self._weights is None or not (self._weights > 0).all():
            raise ValueError("Some pixels are in no window. Add all of `windows` first.")
        return self._sum / self._weights
